import type { Audit, AuditEntry, AuditFields, AuditOutcome } from '../audit.ts';
import { ServiceError } from '../errors.ts';
import { chainName, genesis, link, sealLine } from './chain.ts';
import { formatFields, formatRecord, type RecordHead, type Result } from './record.ts';
import { DescriptorSink, FileSink, type FileOptions, type Sink } from './sinks.ts';

export type SinkName = 'file' | 'stdout';

export interface AuditOptions {
  readonly file?: FileOptions;
  readonly stdout?: boolean;
  /** Sinks that must take the intent; at least one. */
  readonly required: readonly SinkName[];
  /** Milliseconds since the epoch. */
  readonly clock: () => number;
  /** Told of every record that a sink has not taken; for the metrics and the log. */
  readonly onFailure?: (sink: SinkName) => void;
  /** Descriptor of the stdout sink, for tests. */
  readonly descriptor?: number;
}

/** Opens the sinks. Throws when one cannot be opened: a service that cannot keep records does not start. */
export function openAudit(options: AuditOptions): Audit {
  const outlets = openOutlets(options);
  for (const name of options.required) {
    if (!outlets.some((outlet) => outlet.name === name)) throw new Error(`the required audit sink ${name} is not set`);
  }
  if (options.required.length === 0) throw new Error('at least one audit sink must be required');
  const required = new Set<SinkName>(options.required);
  const failed = options.onFailure ?? (() => undefined);

  // Many records share a millisecond; formatting its time costs as much as hashing a record.
  let now = Number.NaN;
  let text = '';
  const isoTime = (milliseconds: number): string => {
    if (milliseconds !== now) [now, text] = [milliseconds, new Date(milliseconds).toISOString()];
    return text;
  };

  /** True when every required sink has taken the record. */
  const write = (type: RecordHead['type'], fields: string, result?: Result): boolean => {
    const time = isoTime(options.clock());
    let accepted = true;
    for (const outlet of outlets) {
      try {
        outlet.write((n) => formatRecord({ type, n, time }, fields, result));
      } catch {
        failed(outlet.name);
        if (required.has(outlet.name)) accepted = false;
      }
    }
    return accepted;
  };

  return {
    begin: (fields) => new Entry(fields, write, options.clock),
    close: () => {
      for (const outlet of outlets) outlet.close();
      return Promise.resolve();
    },
  };
}

type Write = (type: RecordHead['type'], fields: string, result?: Result) => boolean;

class Entry implements AuditEntry {
  /** Its own copy, which grows: six copies for every request would cost more than its line. */
  readonly #fields: AuditFields;
  /** `#fields` as text, until something is added. */
  #text: string | undefined;
  readonly #write: Write;
  readonly #clock: () => number;
  readonly #began: number;
  #intended = false;
  #finished = false;

  constructor(fields: AuditFields, write: Write, clock: () => number) {
    this.#fields = { ...fields };
    this.#write = write;
    this.#clock = clock;
    this.#began = clock();
  }

  get fields(): AuditFields {
    return this.#fields;
  }

  add(fields: Partial<AuditFields>): void {
    Object.assign(this.#fields, fields);
    this.#text = undefined;
  }

  intend(): void {
    if (this.#intended) return;
    if (!this.#write('intent', this.#format())) {
      throw new ServiceError('ServiceUnavailable', { reason: 'audit-sink', headers: { 'Retry-After': '5' } });
    }
    this.#intended = true;
  }

  finish(outcome: AuditOutcome, status: number, errorClass?: string): void {
    if (this.#finished) return;
    this.#finished = true;
    const milliseconds = Math.max(0, Math.round(this.#clock() - this.#began));
    const error = errorClass === undefined ? {} : { error: errorClass };
    // The answer is decided: a sink that fails now is counted, and refuses the next intent.
    this.#write('outcome', this.#format(), { outcome, status, ...error, milliseconds });
  }

  #format(): string {
    return (this.#text ??= formatFields(this.#fields));
  }
}

/** A sink with a chain of its own. */
class Outlet {
  readonly name: SinkName;
  readonly #sink: Sink;
  readonly #chain: string;
  readonly #time: () => string;
  #previous: string;
  #n = 0;
  #file = 0;

  constructor(sink: Sink, chain: string, time: () => string) {
    this.name = sink.name;
    this.#sink = sink;
    this.#chain = chain;
    this.#time = time;
    this.#previous = genesis(chain);
    this.#next();
  }

  /** Appends one record; the chain goes on only when the sink has taken it. */
  write(format: (n: number) => string): void {
    const due = this.#sink.due();
    if (due === 'full') this.#mark('close');
    if (due !== 'no') this.#next();
    this.#append(format(this.#n + 1));
  }

  close(): void {
    try {
      if (this.#sink.due() !== 'gone') this.#mark('close');
    } finally {
      this.#sink.close();
    }
  }

  #next(): void {
    this.#sink.next(this.#file + 1);
    this.#file += 1;
    this.#mark('open');
  }

  /** The line that opens a file names the chain and the last hash before it, so that a missing file shows. */
  #mark(type: 'open' | 'close'): void {
    const { chain, file, previous } = { chain: this.#chain, file: this.#file, previous: this.#previous };
    this.#append(JSON.stringify({ time: this.#time(), type, n: this.#n + 1, chain, file, previous }));
  }

  #append(record: string): void {
    const hash = link(this.#previous, record);
    this.#sink.write(sealLine(record, hash));
    this.#previous = hash;
    this.#n += 1;
  }
}

function openOutlets({ file, stdout, clock, descriptor }: AuditOptions): Outlet[] {
  const time = () => new Date(clock()).toISOString();
  const outlets: Outlet[] = [];
  if (file !== undefined) {
    const chain = chainName();
    outlets.push(new Outlet(new FileSink(file, chain, time()), chain, time));
  }
  if (stdout === true) outlets.push(new Outlet(new DescriptorSink(descriptor), chainName(), time));
  return outlets;
}
