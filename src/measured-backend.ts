import { ServiceError } from './errors.ts';
import type { KmsBackend } from './kms/ports.ts';
import type { KmsCall, Metrics } from './metrics.ts';

/** A KMS backend whose calls are counted and timed, retries included: candidates in their proof as well as the one in force. */
export function measuredBackend(backend: KmsBackend, metrics: Pick<Metrics, 'kmsCall'>): KmsBackend {
  const { kind, capabilities } = backend;
  const timed =
    <A extends unknown[], T>(call: KmsCall, method: (...args: A) => Promise<T>) =>
    async (...args: A): Promise<T> => {
      const began = performance.now();
      let failure: string | undefined;
      try {
        return await method(...args);
      } catch (err) {
        failure = err instanceof ServiceError ? err.code : 'InternalError';
        throw err;
      } finally {
        metrics.kmsCall(kind, call, (performance.now() - began) / 1000, failure);
      }
    };
  return {
    kind,
    capabilities,
    generateDataKey: timed('generate', (...args) => backend.generateDataKey(...args)),
    unwrap: timed('unwrap', (...args) => backend.unwrap(...args)),
    wrappedVersion: (wrapped) => backend.wrappedVersion(wrapped),
    describeKey: timed('describe', (...args) => backend.describeKey(...args)),
    // What a backend cannot do stays missing: it is answered with 501.
    ...(backend.listKeys === undefined ? {} : { listKeys: timed('admin', backend.listKeys.bind(backend)) }),
    ...(backend.createKey === undefined ? {} : { createKey: timed('admin', backend.createKey.bind(backend)) }),
    ...(backend.rotateKey === undefined ? {} : { rotateKey: timed('admin', backend.rotateKey.bind(backend)) }),
    ...(backend.rewrap === undefined ? {} : { rewrap: timed('rewrap', backend.rewrap.bind(backend)) }),
    check: timed('health', (...args) => backend.check(...args)),
    close: () => backend.close(),
  };
}
