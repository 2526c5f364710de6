// Makes `dist` a package of its own: `npm publish ./dist`. Within this workspace the sources themselves are imported.

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';

const { scripts: _scripts, exports: _exports, ...manifest } = JSON.parse(readFileSync('package.json', 'utf8'));
const packed = { ...manifest, types: './index.d.ts', exports: { '.': { types: './index.d.ts', default: './index.js' } } };
writeFileSync('dist/package.json', `${JSON.stringify(packed, null, 2)}\n`);
copyFileSync('README.md', 'dist/README.md');
