import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32Base64, withSignedChunks, withTrailer, xmlText, type RawRequest } from '../support/s3-raw.ts';
import type { Row } from './row.ts';
import type { Site } from './site.ts';

const NEW = Buffer.alloc(300_000, 'n');
const META = { 'x-amz-meta-of': 'old' };

/** Cuts a PUT over an object off in its middle: what is there afterwards. */
async function cutPut(site: Site, key: string, request: Partial<RawRequest>): Promise<string> {
  await site.put(key, 'old', META);
  await site.send('PUT', key, { ...request, cutAfter: 200_000 });
  // A store notices the end of the connection when it does; a short body would be there by then.
  await sleep(500);
  const after = await site.get(key);
  return after.text === 'old' && after.headers['x-amz-meta-of'] === 'old' ? 'old object kept' : 'short body stored';
}

/** Sends a whole PUT that should be refused: its status class, and what is there afterwards. */
async function badPut(site: Site, key: string, request: Partial<RawRequest>): Promise<string> {
  await site.put(key, 'old');
  const { status } = await site.send('PUT', key, request);
  const { text } = await site.get(key);
  return `${status < 300 ? 'accepted' : 'refused'}, ${text === 'old' ? 'old object kept' : 'object replaced'}`;
}

async function goodPut(site: Site, key: string, data: Buffer, request: Partial<RawRequest>): Promise<string> {
  const { status, text } = await site.send('PUT', key, request);
  if (status !== 200) return `${status} ${xmlText(text, 'Code')}`;
  const { body, headers } = await site.get(key);
  return `${body.equals(data) ? 'payload stored' : 'something else stored'}, Content-Encoding ${headers['content-encoding'] ?? 'none'}`;
}

const SHORT_BODY = {
  outcome: 'short body stored',
  reason: 'posix backend links what has arrived: bodies go framed with a trailer (trait refusesShortBody)',
};
const NO_TRAILERS = 'answers 400 to every trailer (trait acceptsTrailers): bodies go unsigned or with their hash';

const NO_CHUNKS = {
  outcome: '501 NotImplemented',
  reason: 'takes no aws-chunked body: bodies go unsigned or with their hash',
};
const NO_CONDITION = 'answers 501 to every condition on PUT (traits putIfMatch, putIfNoneMatch)';

const FRAMING = {
  outcome: 'payload stored, Content-Encoding aws-chunked',
  reason: 'keeps the coding of the framing: the gateway strips it when it answers',
};

export const WRITE_ROWS: readonly Row[] = [
  {
    title: 'a PUT cut off, UNSIGNED-PAYLOAD',
    observe: (site) => cutPut(site, 'cut-unsigned', { body: NEW, payload: 'UNSIGNED-PAYLOAD' }),
    expected: 'old object kept',
    gaps: { versitygw: SHORT_BODY },
  },
  {
    title: 'a PUT cut off by a half-closed socket, UNSIGNED-PAYLOAD',
    observe: (site) => cutPut(site, 'cut-half', { body: NEW, payload: 'UNSIGNED-PAYLOAD', cutBy: 'half-close' }),
    expected: 'old object kept',
    gaps: { versitygw: SHORT_BODY },
  },
  {
    title: 'a PUT cut off, with a payload hash',
    observe: (site) => cutPut(site, 'cut-hash', { body: NEW }),
    expected: 'old object kept',
  },
  {
    title: 'a PUT cut off, with a CRC32 trailer',
    observe: (site) => cutPut(site, 'cut-trailer', withTrailer(NEW)),
    expected: 'old object kept',
  },
  {
    title: 'a PUT with a wrong payload hash',
    observe: (site) => badPut(site, 'bad-hash', { body: NEW, payload: '0'.repeat(64) }),
    expected: 'refused, old object kept',
    gaps: { seaweedfs: { outcome: 'accepted, object replaced', reason: 'does not check the payload hash' } },
  },
  {
    title: 'a PUT with a wrong chunk signature',
    observe: (site) => badPut(site, 'bad-chunk', withSignedChunks([NEW.subarray(0, 65_536), NEW.subarray(65_536)], 1)),
    expected: 'refused, old object kept',
  },
  {
    title: 'a PUT with a wrong CRC32 trailer',
    observe: (site) => badPut(site, 'bad-trailer', withTrailer(NEW, crc32Base64(Buffer.from('other')))),
    expected: 'refused, old object kept',
  },
  {
    title: 'a PUT with a CRC32 trailer',
    observe: (site) => goodPut(site, 'trailer', NEW, withTrailer(NEW)),
    expected: 'payload stored, Content-Encoding none',
    gaps: {
      seaweedfs: FRAMING,
      versitygw: FRAMING,
      radosgw: { outcome: '400 XAmzContentSHA256Mismatch', reason: NO_TRAILERS },
      swift: NO_CHUNKS,
    },
  },
  {
    title: 'a PUT in signed chunks',
    observe: (site) => goodPut(site, 'chunks', NEW, withSignedChunks([NEW.subarray(0, 65_536), NEW.subarray(65_536)])),
    expected: 'payload stored, Content-Encoding none',
    gaps: { seaweedfs: FRAMING, versitygw: FRAMING, radosgw: FRAMING, swift: NO_CHUNKS },
  },
  {
    title: 'a PUT that waits for 100 Continue',
    observe: (site) => goodPut(site, 'expect', NEW, { body: NEW, headers: { expect: '100-continue' } }),
    expected: 'payload stored, Content-Encoding none',
  },
  {
    title: 'PUT If-Match, right and wrong',
    async observe(site) {
      await site.put('if-match', 'a');
      const right = await site.put('if-match', 'b', { 'if-match': await site.etag('if-match') });
      const wrong = await site.put('if-match', 'c', { 'if-match': '"0123456789abcdef0123456789abcdef"' });
      return [right.status, wrong.status, (await site.get('if-match')).text];
    },
    expected: [200, 412, 'b'],
    gaps: {
      radosgw: { outcome: [412, 412, 'a'], reason: 'answers 412 to every If-Match (trait putIfMatch)' },
      swift: { outcome: [501, 501, 'a'], reason: NO_CONDITION },
    },
  },
  {
    title: 'PUT If-None-Match: *, eight writers at once: one winner, whose body stays',
    async observe(site) {
      const rounds = Array.from({ length: 5 }, (_, round) => `only-${round}`);
      const winners = [];
      for (const key of rounds) {
        const answers = await Promise.all(
          Array.from({ length: 8 }, (_, i) => site.put(key, `writer ${i}`, { 'if-none-match': '*' })),
        );
        const won = answers.flatMap(({ status }, i) => (status === 200 ? [`writer ${i}`] : []));
        winners.push(won.length === 1 && (await site.get(key)).text === won[0]);
      }
      return winners;
    },
    expected: [true, true, true, true, true],
    gaps: { swift: { outcome: [false, false, false, false, false], reason: NO_CONDITION } },
  },
  {
    title: 'a counter by GET and PUT If-Match, four writers of five steps: no update is lost',
    async observe(site) {
      await site.put('counter', '0');
      const step = async (): Promise<boolean> => {
        for (let attempt = 0; attempt < 200; attempt += 1) {
          const { text, headers } = await site.get('counter');
          const next = await site.put('counter', String(Number(text) + 1), { 'if-match': headers.etag ?? '' });
          if (next.status === 200) return true;
          if (attempt >= 5 && text === '0') return false;
        }
        return false;
      };
      const writer = async (): Promise<void> => {
        for (let i = 0; i < 5; i += 1) if (!(await step())) return;
      };
      await Promise.all([writer(), writer(), writer(), writer()]);
      return (await site.get('counter')).text;
    },
    expected: '20',
    gaps: {
      radosgw: { outcome: '0', reason: 'answers 412 to every If-Match (trait putIfMatch)' },
      swift: { outcome: '0', reason: NO_CONDITION },
    },
  },
  {
    title: 'DELETE with a wrong If-Match',
    async observe(site) {
      await site.put('delete-if', 'kept');
      const { status } = await site.send('DELETE', 'delete-if', { headers: { 'if-match': '"0123"' } });
      return [status, (await site.get('delete-if')).status];
    },
    expected: [412, 200],
    gaps: {
      radosgw: { outcome: [204, 404], reason: 'ignores If-Match on DELETE (trait deleteIfMatch)' },
      minio: { outcome: [204, 404], reason: 'ignores If-Match on DELETE (trait deleteIfMatch)' },
    },
  },
  {
    title: 'body and user metadata change together, under writers and readers',
    async observe(site) {
      const write = async (writer: number): Promise<void> => {
        for (let i = 0; i < 25; i += 1) {
          const mark = `${writer}-${i}`;
          await site.put('together', Buffer.alloc(5_000, `${mark}.`), { 'x-amz-meta-mark': mark });
        }
      };
      await site.put('together', Buffer.alloc(5_000, 'x-0.'), { 'x-amz-meta-mark': 'x-0' });
      let busy = true;
      const read = async (): Promise<boolean> => {
        let whole = true;
        while (busy) {
          const { body, headers } = await site.get('together');
          whole &&= body.equals(Buffer.alloc(5_000, `${String(headers['x-amz-meta-mark'])}.`));
        }
        return whole;
      };
      const readers = [read(), read()];
      await Promise.all([0, 1, 2].map(write));
      busy = false;
      return Promise.all(readers);
    },
    expected: [true, true],
  },
  {
    title: 'a large body under overwrite is never torn',
    async observe(site) {
      const bodies = ['a', 'b'].map((letter) => Buffer.alloc(3_000_000, letter));
      const put = async (): Promise<void> => {
        for (let i = 0; i < 6; i += 1) await site.put('large', bodies[i % 2] ?? '');
      };
      await site.put('large', bodies[0] ?? '');
      const writing = put();
      const seen = await Promise.all(Array.from({ length: 8 }, () => site.get('large')));
      await writing;
      return seen.every(({ body }) => bodies.some((candidate) => candidate.equals(body)));
    },
    expected: true,
  },
  {
    title: 'random bytes come back, and their ETag is their MD5',
    async observe(site) {
      const data = randomBytes(1_000_003);
      await site.put('random', data);
      return (await site.get('random')).body.equals(data);
    },
    expected: true,
  },
];
