import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  resolve: {
    alias: [
      { find: /^react\/jsx(-dev)?-runtime$/, replacement: 'preact/jsx-runtime' },
      { find: /^react$/, replacement: fileURLToPath(new URL('src/react.ts', import.meta.url)) },
    ],
  },
  build: {
    outDir: '../../dist', emptyOutDir: true, target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false },
    // `"use client"` is for those who render on a server.
    rolldownOptions: { onwarn: (warning, tell) => { if (warning.code !== 'MODULE_LEVEL_DIRECTIVE') tell(warning); } },
  },
  // `npm run dev` speaks to a server on its default port.
  server: { proxy: { '/socket.io': { target: 'http://localhost:3001', ws: true }, '/v1': 'http://localhost:3001' } },
});
