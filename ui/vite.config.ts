// The bundle for the app. `--mode fake` swaps Tauri for the backend in dev/, for development and tests only.
import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

const fake = fileURLToPath(new URL('./dev/tauri.ts', import.meta.url));

export default defineConfig(({ mode }) => ({
  base: './',
  plugins: [svelte()],
  resolve: {
    alias:
      mode === 'fake'
        ? [{ find: /^@tauri-apps\/api\/(core|event|window)$/, replacement: fake }]
        : [],
  },
  build: {
    target: 'es2022',
    outDir: mode === 'fake' ? 'node_modules/.cache/fake-dist' : 'dist',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { port: 5199, strictPort: true, host: '127.0.0.1' },
  test: {
    include: ['tests/**/*.test.ts'],
    globalSetup: 'tests/build.ts',
    testTimeout: 60_000, hookTimeout: 120_000,
  },
}));
