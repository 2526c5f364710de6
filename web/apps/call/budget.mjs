// What a first visit to the call page costs, said at the end of each build, which fails above the budget.

import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

/** In bytes of gzip: the page itself, and every script, style and icon that it names. */
const FIRST_LOAD_MAX = 60_000;

const dist = new URL('../../dist/', import.meta.url);
const sizeOf = (path) => gzipSync(readFileSync(new URL(path, dist))).length;
const index = readFileSync(new URL('index.html', dist), 'utf8');
const named = [...index.matchAll(/(?:src|href)="\.?\/?([^"]+\.(?:js|css|svg))"/g)].map((match) => match[1]);
const sizes = ['index.html', ...new Set(named)].map((path) => [path, sizeOf(path)]);
const sum = sizes.reduce((all, [, size]) => all + size, 0);
console.log(`first load of the call page: ${sum} bytes of gzip, of ${FIRST_LOAD_MAX} (${sizes.map(([path, size]) => `${path} ${size}`).join(', ')})`);
if (sum > FIRST_LOAD_MAX) process.exit(1);
