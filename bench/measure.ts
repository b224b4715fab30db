import { setTimeout as sleep } from 'node:timers/promises';
import { cpuSeconds, residentBytes } from './cpu.ts';
import { bodyOf, BUCKET, once, run, type Workload } from './load.ts';
import type { Subject, SubjectName } from './subjects.ts';

const MIB = 1024 * 1024;

/** One subject under one workload in one round. */
export interface Round {
  readonly round: number;
  readonly workload: string;
  readonly subject: SubjectName;
  readonly units: number;
  readonly bytes: number;
  readonly cpuSeconds: number;
  readonly seconds: number;
  readonly markCompacts: number;
}

const DEFAULT_ENCRYPTION = Buffer.from(
  '<ServerSideEncryptionConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule>' +
    '<ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault>' +
    '<BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>',
);

/** The bucket, and a round trip at sizes around the boundaries: what is fast and wrong is not measured. */
export async function prepare(subject: Subject, maker: Subject): Promise<void> {
  if (subject === maker) {
    await demand(subject, 200, { method: 'PUT', path: `/${BUCKET}`, body: Buffer.alloc(0) });
    if (subject.name === 'gateway') {
      const query = [['encryption', '']] as const;
      await demand(subject, 200, { method: 'PUT', path: `/${BUCKET}`, query, body: DEFAULT_ENCRYPTION, hashed: true });
    }
  }
  for (const size of [0, 1, 4096, 65535, 65536, 65537, 128 * 1024, 128 * 1024 + 1, 5 * MIB]) {
    const path = `/${BUCKET}/${subject.name}-check`;
    const body = bodyOf(size);
    await demand(subject, 200, { method: 'PUT', path, body });
    const answer = await demand(subject, 200, { method: 'GET', path });
    if (answer.body?.equals(body) !== true) throw new Error(`${subject.name}: ${size} bytes came back changed`);
  }
}

async function demand(subject: Subject, status: number, request: Parameters<typeof once>[1]) {
  const answer = await once(subject, request);
  if (answer.status === status) return answer;
  const { method, path } = request;
  throw new Error(`${subject.name}: ${method} ${path}: ${answer.status} ${answer.body?.toString() ?? ''}`);
}

/** By count, not by time: the compiler is done when it is done. */
export async function warmUp(subject: Subject, workloads: readonly Workload[]): Promise<void> {
  for (const workload of workloads) {
    if (workload.method === 'GET') await run(subject, { ...workload, method: 'PUT' }, workload.keys);
    await run(subject, workload, workload.warmUp);
  }
}

/** Every workload over every subject, one after another: what disturbs the machine disturbs neighbours. */
export async function measure(
  subjects: readonly Subject[],
  workloads: readonly Workload[],
  round: number,
): Promise<Round[]> {
  const out: Round[] = [];
  for (const workload of workloads) {
    for (const subject of subjects) {
      const collected = subject.markCompacts();
      const [began, cpu] = [performance.now(), await cpuSeconds(subject.child)];
      await run(subject, workload, workload.units);
      const seconds = (performance.now() - began) / 1000;
      const used = (await cpuSeconds(subject.child)) - cpu;
      out.push({
        round,
        workload: workload.name,
        subject: subject.name,
        units: workload.units,
        bytes: workload.units * workload.size,
        cpuSeconds: used,
        seconds,
        markCompacts: subject.markCompacts() - collected,
      });
    }
  }
  return out;
}

export interface StreamMemory {
  readonly method: 'PUT' | 'GET';
  readonly streams: number;
  /** Peak over what the process had at rest, per stream. */
  readonly bytesPerStream: number;
}

/** Resident memory with 16 streams of 256 MiB at once, over that of the warm process at rest. */
export async function memoryPerStream(subject: Subject): Promise<StreamMemory[]> {
  const { pid } = subject.child;
  if (pid === undefined || residentBytes(pid) === undefined) return [];
  const streams = 16;
  const size = 256 * MIB;
  const out: StreamMemory[] = [];
  for (const method of ['PUT', 'GET'] as const) {
    const workload = { name: method, method, size, connections: streams, keys: 1, warmUp: 0, units: streams };
    const warm = { ...workload, size: MIB, connections: 2 };
    await run(subject, { ...warm, method: 'PUT' }, 200);
    if (method === 'GET') await run(subject, { ...workload, method: 'PUT', connections: 1 }, 1);
    await run(subject, warm, 200);
    await sleep(1000);
    const base = residentBytes(pid) ?? 0;
    let peak = base;
    const timer = setInterval(() => (peak = Math.max(peak, residentBytes(pid) ?? 0)), 20);
    await run(subject, workload, streams, method === 'PUT' ? 'discard-' : '');
    clearInterval(timer);
    out.push({ method, streams, bytesPerStream: (peak - base) / streams });
  }
  return out;
}

export interface RequestCount {
  readonly operation: string;
  /** Requests to the store for 1000 of the client. */
  readonly perThousand: number;
}

/** What the store sees of small operations; the bucket's record and keys are known by then. */
export async function storeRequests(subject: Subject, sink: string): Promise<RequestCount[]> {
  const count = async (): Promise<number> => Number(await (await fetch(`${sink}/requests`)).text());
  const path = `/${BUCKET}/counted`;
  const times = 100;
  await demand(subject, 200, { method: 'PUT', path, body: bodyOf(200_000) });
  const rows = [
    ['PUT', { method: 'PUT', path, body: bodyOf(200_000) }, 200],
    ['GET', { method: 'GET', path }, 200],
    ['GET of a range', { method: 'GET', path, headers: { range: 'bytes=70000-80000' } }, 206],
    ['GET of the last bytes', { method: 'GET', path, headers: { range: 'bytes=-100' } }, 206],
    ['HEAD', { method: 'HEAD', path }, 200],
  ] as const;
  const out: RequestCount[] = [];
  for (const [operation, request, status] of rows) {
    const before = await count();
    for (let i = 0; i < times; i += 1) await demand(subject, status, request);
    out.push({ operation, perThousand: (((await count()) - before) / times) * 1000 });
  }
  return out;
}
