import { ServiceError } from '../errors.ts';

type Headers = Readonly<Record<string, string>>;

const MODE = 'x-amz-object-lock-mode';
const UNTIL = 'x-amz-object-lock-retain-until-date';
const HOLD = 'x-amz-object-lock-legal-hold';
const CHECKSUM = /^x-amz-checksum-(?!algorithm$|mode$|type$)/;

/** True where an upload asks for retention or a legal hold. */
export function asksForLock(headers: Headers): boolean {
  return [MODE, UNTIL, HOLD].some((name) => headers[name] !== undefined);
}

/** The three headers against each other (AWS "PutObject"); the date itself is the store's to judge. */
export function assertLock(headers: Headers): void {
  const { [MODE]: mode, [UNTIL]: until, [HOLD]: hold } = headers;
  if ((mode === undefined) !== (until === undefined)) invalid(`${UNTIL} and ${MODE} must both be supplied`);
  if (mode !== undefined && mode !== 'GOVERNANCE' && mode !== 'COMPLIANCE') invalid('Unknown wormMode directive.');
  if (hold !== undefined && hold !== 'ON' && hold !== 'OFF') invalid('Legal Hold must be either of ON or OFF');
}

/** AWS: what cannot be taken back has to arrive as it was meant. */
export function assertDigest(headers: Headers): void {
  const named = Object.keys(headers).some((name) => CHECKSUM.test(name));
  if (named || headers['content-md5'] !== undefined || headers['x-amz-trailer'] !== undefined) return;
  throw new ServiceError('InvalidRequest', {
    message:
      'Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters',
    reason: 'lock-digest',
  });
}

function invalid(message: string): never {
  throw new ServiceError('InvalidArgument', { message, reason: 'lock' });
}
