import { ServiceError } from '../../src/errors.ts';

/** The code of the ServiceError that `run` throws; what else happens is said in words, so that no row can match it. */
export function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (err) {
    return err instanceof ServiceError ? err.code : `not a ServiceError: ${String(err)}`;
  }
  return 'no error';
}
