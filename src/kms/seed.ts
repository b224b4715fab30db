import { asServiceError } from '../errors.ts';
import type { ServiceControl } from './ports.ts';

/**
 * Brings the configuration file's section into the service. `file`: it rules, at every start. `api`: it seeds a
 * service that was never configured, and starts it. The KMS may be down at this moment: it is tried until it works or
 * an administrator was faster, for nobody should have to restart a gateway because its KMS came up later.
 */
export interface SeedOptions {
  readonly service: ServiceControl;
  readonly section: unknown;
  readonly source: 'api' | 'file';
  readonly log: (event: string, err: unknown) => void;
  /** First wait; it backs off to 30 s. */
  readonly retryMs: number;
  /** How long opening waits for it, before it goes on in the background. */
  readonly waitMs: number;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
}

const BY = 'configuration file';
const LONGEST_MS = 30_000;

/** Something to wait for or to do once more; or over. */
type Step = 'again' | 'done';

export class Seed {
  readonly #options: SeedOptions;
  /** The file's section has been taken; what is left is to start. */
  #configured = false;
  #mayStart: boolean;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  #failures = 0;

  private constructor(options: SeedOptions) {
    this.#options = options;
    this.#mayStart = options.service.state() === 'NotConfigured';
  }

  /** Resolves when it is done, or when it has taken long enough to go on without it. */
  static async begin(options: SeedOptions): Promise<Seed> {
    const seed = new Seed(options);
    let limit: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (limit = setTimeout(resolve, options.waitMs)));
    await Promise.race([seed.#attempt(), late]);
    clearTimeout(limit);
    return seed;
  }

  close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    return Promise.resolve();
  }

  async #attempt(): Promise<void> {
    let step: Step;
    try {
      step = await this.#step();
      this.#failures = 0;
    } catch (err) {
      // Stopped meanwhile, by somebody who meant it.
      step = asServiceError(err).reason === 'kms-stopped' ? 'done' : 'again';
      if (!this.#closed) this.#options.log('kms configuration from file failed', err);
    }
    if (step === 'done' || this.#closed) return;
    const { retryMs, random } = this.#options;
    const wait = Math.min(LONGEST_MS, retryMs * 2 ** Math.min(this.#failures++, 10));
    this.#timer = setTimeout(() => void this.#attempt(), wait * (0.75 + 0.25 * random()));
    this.#timer.unref();
  }

  async #step(): Promise<Step> {
    const { service, section, source } = this.#options;
    const state = service.state();
    if (!this.#configured) {
      // Not read yet: whether it was ever configured is still to be seen.
      if (source === 'api' && (state === 'Starting' || state === 'Error')) return 'again';
      if (source === 'api' && Object.keys(service.config()).length > 0) return 'done';
      this.#mayStart ||= state === 'NotConfigured';
      await service.configure(section, BY);
      this.#configured = true;
    }
    if (!this.#mayStart || service.state() === 'Running') return 'done';
    // An administrator's stop holds against the file.
    if ((await service.status())['stop'] === undefined) await service.start(BY);
    return 'done';
  }
}
