import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ServiceError } from '../../src/errors.ts';
import { payloadReader } from '../../src/sigv4/chunked.ts';
import type { PayloadReader } from '../../src/sigv4/types.ts';
import { chunkedBody, codeOf, draft, EMPTY, verify } from './support.ts';

const CRC32 = ['x-amz-checksum-crc32', 'NSRBwg=='] as const;
const HELLO_SHA256 = '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824';

type Mode = 'sha256' | 'unsigned' | 'signed' | 'signed-trailer' | 'unsigned-trailer';

const LITERAL: Record<Mode, string> = {
  sha256: HELLO_SHA256,
  unsigned: 'UNSIGNED-PAYLOAD',
  signed: 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
  'signed-trailer': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER',
  'unsigned-trailer': 'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
};

const trailerOf = (mode: Mode) => (mode.endsWith('trailer') ? CRC32 : undefined);

interface Upload {
  readonly reader: () => PayloadReader;
  readonly wire: Buffer;
}

function upload(mode: Mode, parts: readonly Buffer[], length = Buffer.concat(parts).length, newline = '\r\n'): Upload {
  const chunked = mode !== 'sha256' && mode !== 'unsigned';
  const trailer = trailerOf(mode);
  const head = draft({
    method: 'PUT',
    payloadHash: LITERAL[mode],
    headers: {
      [chunked ? 'x-amz-decoded-content-length' : 'content-length']: String(length),
      ...(trailer === undefined ? {} : { 'x-amz-trailer': trailer[0] }),
    },
  });
  const seed = mode.startsWith('signed') ? { seed: head.signature } : {};
  const wire = chunked ? chunkedBody(parts, { ...seed, trailer, newline }) : Buffer.concat(parts);
  return { wire, reader: () => payloadReader(verify(head)) };
}

/** Cuts the wire at the given places; the payload and the trailers, or the code of the error. */
function read(reader: PayloadReader, wire: Buffer, cuts: readonly number[] = []) {
  const out: Buffer[] = [];
  const places = [...cuts.filter((at) => at < wire.length), wire.length].sort((a, b) => a - b);
  let from = 0;
  for (const to of places) {
    reader.push(wire.subarray(from, to), (part) => out.push(part));
    from = to;
  }
  const trailers = reader.finish();
  return { payload: Buffer.concat(out), trailers };
}

const outcome = (reader: PayloadReader, wire: Buffer): string => codeOf(() => read(reader, wire));
const HELLO = Buffer.from('hello');
const MODES = Object.keys(LITERAL) as Mode[];
const edit = (wire: Buffer, from: string, to: string): Buffer => {
  const text = wire.toString('latin1');
  if (!text.includes(from)) throw new Error(`nothing to edit: ${from}`);
  return Buffer.from(text.replace(from, to), 'latin1');
};

describe.each(MODES)('a body in mode %s', (mode) => {
  it('is read whole, and byte by byte', () => {
    const { wire, reader } = upload(mode, mode === 'sha256' ? [HELLO] : [HELLO, Buffer.from('world')]);
    const everywhere = Array.from(wire.keys());
    const whole = read(reader(), wire);
    expect(whole.payload.toString()).toBe(mode === 'sha256' ? 'hello' : 'helloworld');
    expect(read(reader(), wire, everywhere)).toEqual(whole);
    expect(whole.trailers).toEqual(mode.endsWith('trailer') ? Object.fromEntries([CRC32]) : {});
  });

  it('may be empty', () => {
    const { wire, reader } = upload(mode, []);
    expect(outcome(reader(), wire)).toBe(mode === 'sha256' ? 'XAmzContentSHA256Mismatch' : 'accepted');
  });

  it('is refused when it ends early, at every place', () => {
    const { wire, reader } = upload(mode, [HELLO]);
    for (let length = 0; length < wire.length; length++) {
      expect(outcome(reader(), wire.subarray(0, length))).toBe('IncompleteBody');
    }
  });

  it('is refused when a byte follows its end', () => {
    const { wire, reader } = upload(mode, [HELLO]);
    const chunked = mode !== 'sha256' && mode !== 'unsigned';
    expect(outcome(reader(), Buffer.concat([wire, Buffer.from('\n')]))).toBe(
      chunked ? 'InvalidRequest' : 'IncompleteBody',
    );
  });

  it.each([
    ['shorter', 4],
    ['longer', 6],
  ])('is refused when the declared length is %s', (_, length) => {
    const { wire, reader } = upload(mode, [HELLO], length);
    expect(outcome(reader(), wire)).toBe('IncompleteBody');
  });

  it('any split of it gives the same payload and trailers', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 4 }),
        fc.array(fc.nat({ max: 800 }), { maxLength: 12 }),
        fc.constantFrom('\r\n', '\n\r\n'),
        (chunks, cuts, newline) => {
          const parts = mode === 'sha256' ? [HELLO] : chunks.map((chunk) => Buffer.from(chunk));
          const { wire, reader } = upload(mode, parts, undefined, newline);
          const { payload, trailers } = read(reader(), wire, cuts);
          expect(payload.equals(Buffer.concat(parts))).toBe(true);
          expect(Object.keys(trailers)).toEqual(mode.endsWith('trailer') ? [CRC32[0]] : []);
        },
      ),
    );
  });
});

// In `unsigned` the wire says nothing of its content; in `unsigned-trailer` the gateway compares the checksum.
const BOUND = ['sha256', 'signed', 'signed-trailer'] as const;

describe.each(BOUND)('corruption in mode %s', (mode) => {
  it('never lets finish succeed with another payload or trailer, however it is changed and cut', () => {
    const damage = fc.oneof(
      fc.record({ kind: fc.constant('flip' as const), at: fc.nat(), bit: fc.nat({ max: 7 }) }),
      fc.record({ kind: fc.constant('drop' as const), at: fc.nat(), count: fc.integer({ min: 1, max: 9 }) }),
      fc.record({
        kind: fc.constant('insert' as const),
        at: fc.nat(),
        bytes: fc.uint8Array({ minLength: 1, maxLength: 9 }),
      }),
      fc.record({ kind: fc.constant('repeat' as const), at: fc.nat(), count: fc.integer({ min: 1, max: 200 }) }),
    );
    const parts = mode === 'sha256' ? [HELLO] : [Buffer.alloc(30, 'a'), Buffer.alloc(30, 'b')];
    const { wire, reader } = upload(mode, parts);
    const intact = read(reader(), wire);
    fc.assert(
      fc.property(damage, fc.array(fc.nat({ max: 500 }), { maxLength: 6 }), (harm, cuts) => {
        const damaged = harmed(wire, harm);
        fc.pre(!damaged.equals(wire));
        let result;
        try {
          result = read(reader(), damaged, cuts);
        } catch (err) {
          if (!(err instanceof ServiceError)) throw err;
          return;
        }
        // What is left are spellings of the same message: letter case of a name or a size, LF CRLF for CRLF.
        expect(mode).not.toBe('sha256');
        expect(result).toEqual(intact);
        expect(canonicalSpelling(damaged)).toBe(canonicalSpelling(wire));
      }),
      { numRuns: 600 },
    );
  });
});

type Harm =
  | { kind: 'flip'; at: number; bit: number }
  | { kind: 'drop' | 'repeat'; at: number; count: number }
  | { kind: 'insert'; at: number; bytes: Uint8Array };

function harmed(wire: Buffer, harm: Harm): Buffer {
  const at = harm.at % wire.length;
  const [head, tail] = [wire.subarray(0, at), wire.subarray(at)];
  switch (harm.kind) {
    case 'flip': {
      const copy = Buffer.from(wire);
      copy[at] = (copy[at] ?? 0) ^ (1 << harm.bit);
      return copy;
    }
    case 'drop':
      return Buffer.concat([head, tail.subarray(harm.count)]);
    case 'repeat':
      return Buffer.concat([head, tail.subarray(0, harm.count), tail]);
    case 'insert':
      return Buffer.concat([head, harm.bytes, tail]);
  }
}

function canonicalSpelling(wire: Buffer): string {
  const text = wire
    .toString('latin1')
    .replace(/[ \t]/g, '')
    .replace(/\n\r\n/g, '\r\n');
  return text.replace(/^1e;/gim, '1e;').replace(/^x-amz-[a-z0-9-]+:/gim, (name) => name.toLowerCase());
}

describe('aws-chunked framing', () => {
  const signed = upload('signed', [HELLO]);
  const trailing = upload('unsigned-trailer', [HELLO]);
  const both = upload('signed-trailer', [HELLO]);
  const SIG = /chunk-signature=([0-9a-f]{64})/.exec(signed.wire.toString('latin1'))?.[1] ?? '';
  const other = SIG.replace(/^./, (c) => (c === '0' ? '1' : '0'));

  it.each<[string, Upload, string, string, string]>([
    ['LF instead of CRLF after the size', trailing, '5\r\n', '5\n', 'InvalidRequest'],
    ['LF instead of CRLF after the data', trailing, 'hello\r\n', 'hello\n', 'InvalidRequest'],
    ['no CRLF after the data', trailing, 'hello\r\n', 'hello', 'InvalidRequest'],
    ['bytes between the data and its CRLF', trailing, 'hello\r\n', 'hellox\r\n', 'InvalidRequest'],
    ['a size in capitals', upload('unsigned-trailer', [Buffer.alloc(10)]), 'a\r\n', 'A\r\n', 'accepted'],
    ['a size with a leading zero', trailing, '5\r\n', '05\r\n', 'InvalidRequest'],
    ['a size with 0x', trailing, '5\r\n', '0x5\r\n', 'InvalidRequest'],
    ['a signed size', trailing, '5\r\n', '+5\r\n', 'InvalidRequest'],
    ['a blank before the size', trailing, '5\r\n', ' 5\r\n', 'InvalidRequest'],
    ['no size', trailing, '5\r\n', '\r\n', 'InvalidRequest'],
    ['a size of 13 digits', trailing, '5\r\n', 'fffffffffffff\r\n', 'IncompleteBody'],
    ['a size of 14 digits', trailing, '5\r\n', 'ffffffffffffff\r\n', 'InvalidRequest'],
    ['an extension where none is signed', trailing, '5\r\n', '5;chunk-signature=\r\n', 'InvalidRequest'],
    ['a line that does not end', trailing, '5\r\n', '5'.repeat(300), 'InvalidRequest'],
    ['a smaller size', signed, '5;', '4;', 'SignatureDoesNotMatch'],
    ['a greater size', signed, '5;', '6;', 'IncompleteBody'],
    ['no chunk signature', signed, `;chunk-signature=${SIG}`, '', 'InvalidRequest'],
    ['a chunk signature in capitals', signed, SIG, SIG.toUpperCase(), 'InvalidRequest'],
    ['a short chunk signature', signed, SIG, SIG.slice(1), 'InvalidRequest'],
    ['another chunk signature', signed, SIG, other, 'SignatureDoesNotMatch'],
    ['a second extension', signed, SIG, `${SIG};a=b`, 'InvalidRequest'],
    ['other data', signed, 'hello', 'hellO', 'SignatureDoesNotMatch'],
    ['a trailer where none was named', signed, '\r\n\r\n', '\r\nx-amz-checksum-crc32:AAAA\r\n\r\n', 'InvalidRequest'],
    ['another trailer than was named', trailing, 'crc32:', 'crc32c:', 'MalformedTrailerError'],
    ['the trailer missing', trailing, 'x-amz-checksum-crc32:NSRBwg==\r\n', '', 'MalformedTrailerError'],
    ['the trailer twice', trailing, '==\r\n', '==\r\nx-amz-checksum-crc32:NSRBwg==\r\n', 'MalformedTrailerError'],
    ['a second trailer', trailing, '==\r\n', '==\r\nx-amz-checksum-sha1:AAAA\r\n', 'MalformedTrailerError'],
    ['a trailer without a value', trailing, 'NSRBwg==', '', 'MalformedTrailerError'],
    ['a trailer that is not base64', trailing, 'NSRBwg==', 'NSRBwg==?', 'MalformedTrailerError'],
    ['a trailer of 300 bytes', trailing, 'NSRBwg==', 'A'.repeat(300), 'InvalidRequest'],
    ['a trailer in capitals', trailing, 'x-amz-checksum-crc32:', 'X-Amz-Checksum-Crc32: ', 'accepted'],
    ['another trailer value', both, 'NSRBwg==', 'NSRBwQ==', 'SignatureDoesNotMatch'],
    ['no trailer signature', both, 'x-amz-trailer-signature', 'x-amz-trailer-signaturf', 'MalformedTrailerError'],
    [
      'a trailer signature in an unsigned body',
      trailing,
      '==\r\n',
      `==\r\nx-amz-trailer-signature:${EMPTY}\r\n`,
      'MalformedTrailerError',
    ],
  ])('%s', (_, { wire, reader }, from, to, code) => {
    expect(outcome(reader(), wire)).toBe('accepted');
    expect(outcome(reader(), edit(wire, from, to))).toBe(code);
  });

  it('chunks may not change places, and none be left out', () => {
    const { reader, wire } = upload('signed', [Buffer.from('aaaaa'), Buffer.from('bbbbb')]);
    const size = wire.indexOf('5;', 10);
    const [first, second, rest] = [wire.subarray(0, size), wire.subarray(size, 2 * size), wire.subarray(2 * size)];
    expect(outcome(reader(), Buffer.concat([first, second, rest]))).toBe('accepted');
    expect(outcome(reader(), Buffer.concat([second, first, rest]))).toBe('SignatureDoesNotMatch');
    expect(outcome(reader(), Buffer.concat([first, first, rest]))).toBe('SignatureDoesNotMatch');
    expect(outcome(reader(), Buffer.concat([first, rest]))).toBe('IncompleteBody');
  });

  it("another request's chunks are refused", () => {
    const foreign = upload('signed-trailer', [HELLO]).wire;
    expect(outcome(signed.reader(), foreign)).toBe('SignatureDoesNotMatch');
  });

  it.each(['signed', 'signed-trailer'] as const)('the last, empty chunk is signed too (%s)', (mode) => {
    const { reader, wire } = upload(mode, [HELLO]);
    const last = /\r\n0;chunk-signature=[0-9a-f]/.exec(wire.toString('latin1'))?.[0] ?? '';
    const wrong = last.slice(0, -1) + (last.endsWith('0') ? '1' : '0');
    expect(outcome(reader(), edit(wire, last, wrong))).toBe('SignatureDoesNotMatch');
  });

  it.each(MODES)('gives out no byte beyond the declared length (%s)', (mode) => {
    const { reader, wire } = upload(mode, [HELLO], 4);
    const seen: number[] = [];
    expect(codeOf(() => reader().push(wire, (part) => seen.push(part.length)))).toBe('IncompleteBody');
    expect(seen).toEqual([]);
  });

  it('gives no byte of a chunk out before its signature has verified', () => {
    const data = Buffer.alloc(256 * 1024, 'a');
    const { wire, reader } = upload('signed', [data]);
    const seen: number[] = [];
    const bad = edit(wire, 'aaaa\r\n', 'aaab\r\n');
    expect(codeOf(() => reader().push(bad, (part) => seen.push(part.length)))).toBe('SignatureDoesNotMatch');
    expect(seen).toEqual([]);
  });

  it('passes a longer chunk on while it is hashed, and fails at its end for good', () => {
    const { wire, reader } = upload('signed', [Buffer.alloc(256 * 1024 + 1, 'a')]);
    const broken = reader();
    const seen: number[] = [];
    const bad = edit(wire, 'aaaa\r\n', 'aaab\r\n');
    broken.push(bad.subarray(0, 1000), (part) => seen.push(part.length));
    expect(seen.length).toBe(1);
    expect(codeOf(() => broken.push(bad.subarray(1000), () => undefined))).toBe('SignatureDoesNotMatch');
    expect(codeOf(() => broken.push(Buffer.from('0'), () => undefined))).toBe('SignatureDoesNotMatch');
    expect(codeOf(() => broken.finish())).toBe('SignatureDoesNotMatch');
  });

  it('copies nothing', () => {
    const { wire, reader } = upload('unsigned', [HELLO]);
    reader().push(wire, (part) => expect(part).toBe(wire));
    const parts: Buffer[] = [];
    signed.reader().push(signed.wire, (part) => parts.push(part));
    expect(parts.map((part) => part.buffer === signed.wire.buffer)).toEqual([true]);
  });
});

describe('anything at all', () => {
  it('is answered by a ServiceError or accepted', () => {
    const text = fc.constantFrom(
      '0',
      '5',
      '\r\n',
      '\n',
      ';chunk-signature=',
      EMPTY,
      'x-amz-checksum-crc32:',
      'AA==',
      'hello',
    );
    const piece = fc.oneof(text, fc.string({ maxLength: 5 }));
    fc.assert(
      fc.property(fc.constantFrom(...MODES), fc.array(piece, { maxLength: 12 }), (mode, pieces) => {
        const reader = upload(mode, [HELLO]).reader();
        expect(typeof codeOf(() => pieces.forEach((p) => reader.push(Buffer.from(p, 'latin1'), () => undefined)))).toBe(
          'string',
        );
        expect(typeof codeOf(() => reader.finish())).toBe('string');
      }),
      { numRuns: 500 },
    );
  });
});
