import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** @type {import('next').NextConfig} */
export default {
  // They come as TypeScript.
  transpilePackages: ['@lyceum/client', '@lyceum/react'],
  // It costs more than it saves where each build is the first.
  experimental: { turbopackFileSystemCacheForBuild: false },
  turbopack: { root: dirname(fileURLToPath(import.meta.url)) },
};
