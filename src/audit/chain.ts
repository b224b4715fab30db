import { hash, randomBytes } from 'node:crypto';

/**
 * A hash chain over JSON lines (docs/AUDIT.md). Each line ends in `"hash"`: SHA-256 over the hash before it and the
 * line without that member. A chain belongs to one process and one sink; its name is in every file name and opener.
 */

/** The first hash of a chain: of its name, so that lines of one chain do not fit into another. */
export function genesis(chain: string): string {
  return hash('sha256', `express-s3-sse audit chain v1\n${chain}`, 'hex');
}

/** `record` is a JSON object's text without the hash. */
export function link(previous: string, record: string): string {
  return hash('sha256', `${previous}\n${record}`, 'hex');
}

/** Puts the hash into the record as its last member; the line feed included. */
export function sealLine(record: string, hash: string): string {
  return `${record.slice(0, -1)},"hash":"${hash}"}\n`;
}

const SEALED = /^(\{.*),"hash":"([0-9a-f]{64})"\}$/s;

/** The reverse of `sealLine` (without its line feed); undefined for anything else. */
export function openLine(line: string): { readonly record: string; readonly hash: string } | undefined {
  const match = SEALED.exec(line);
  return match === null ? undefined : { record: `${match[1] ?? ''}}`, hash: match[2] ?? '' };
}

/** 64 random bits: names are unique over processes, hosts and restarts. */
export function chainName(random: (size: number) => Buffer = randomBytes): string {
  return random(8).toString('hex');
}
