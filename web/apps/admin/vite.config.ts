import { defineConfig } from 'vite';

const server = 'http://localhost:3001';

export default defineConfig({
  base: '/admin/',
  // Built after the call page, into its folder.
  build: { outDir: '../../dist/admin', emptyOutDir: true, target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  // `npm run dev` speaks to a server on its default port.
  server: { proxy: { '/v1': server, '/whip': server } },
});
