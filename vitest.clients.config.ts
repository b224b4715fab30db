import { defineConfig } from 'vitest/config';

/** The client matrix: real S3 clients from Debian and the package indexes, which `npm test` does without. */
export default defineConfig({
  test: {
    include: ['test/clients/stores/*.matrix.ts'],
    testTimeout: 300_000,
    hookTimeout: 300_000,
    // Two stores at a time.
    maxWorkers: 2,
  },
});
