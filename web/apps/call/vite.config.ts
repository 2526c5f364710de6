import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  build: { outDir: '../../dist', emptyOutDir: true, target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  // `npm run dev` speaks to a server on its default port.
  server: { proxy: { '/socket.io': { target: 'http://localhost:3001', ws: true } } },
});
