import { describe, expect, it } from 'vitest';
import type { SseMode } from '../../src/sse/format.ts';
import { sealedSize } from '../../src/sse/size.ts';
import { bytes, openObject, sealSingle } from './fixture.ts';

const modes: readonly SseMode[] = ['SSE-S3', 'SSE-KMS', 'SSE-C'];

describe.each(modes)('a single object under %s', (mode) => {
  it.each([0, 1, 15, 16, 65_535, 65_536, 65_537, 131_072, 200_000])('of %i bytes opens again', (length) => {
    const plaintext = bytes(length);
    const stored = sealSingle({ mode, plaintext });
    expect(stored.body.length).toBe(sealedSize(length));
    expect(openObject(stored).equals(plaintext)).toBe(true);
  });
});
