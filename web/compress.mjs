// Writes a Brotli and a gzip twin beside each built file that shrinks by it, so that the server compresses nothing while it runs.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const DIST = new URL('dist', import.meta.url).pathname;
/** Pictures and fonts are compressed already. */
const WORTH = /\.(html|js|mjs|css|json|map|svg|txt|wasm|webmanifest)$/;
/** A twin must be smaller by this part, or decompressing is for nothing. */
const SAVES = 0.05;

for (const entry of readdirSync(DIST, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || !WORTH.test(entry.name)) continue;
  const path = join(entry.parentPath, entry.name);
  const bytes = readFileSync(path);
  const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } };
  for (const [suffix, twin] of [['br', brotliCompressSync(bytes, quality)], ['gz', gzipSync(bytes, { level: 9 })]]) {
    if (twin.length < bytes.length * (1 - SAVES)) writeFileSync(`${path}.${suffix}`, twin);
  }
}
