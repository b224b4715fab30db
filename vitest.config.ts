import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/stores/global-setup.ts'],
    testTimeout: 30_000,
    hookTimeout: 120_000,
    // On two cores: a third of the time a worker waits for a real server beside it.
    maxWorkers: 3,
  },
});
