import { defineConfig } from 'vitest/config';

/** Applications that people put behind a gateway, from Debian and the Python index: `npm test` does without them. */
export default defineConfig({
  test: {
    include: ['test/apps/*.app.ts'],
    testTimeout: 240_000,
    hookTimeout: 240_000,
    // All of its disk is searched for plaintext.
    env: { RADOSGW_GIB: '2' },
    // Each application starts servers of its own.
    maxWorkers: 2,
  },
});
