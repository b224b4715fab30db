import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Server as TlsServer } from 'node:tls';
import { readSecret } from './config.ts';
import type { Log } from './log.ts';

/** Where a listener's certificate and key lie. */
export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface Certificate {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** When the first certificate of the chain, the listener's own, expires; milliseconds since the epoch. */
  readonly expires: number;
}

export const TLS = { minVersion: 'TLSv1.2' } as const;

/** Reads both. Throws where the key's file is open to others, or the key is not the certificate's. */
export function readCertificate({ certFile, keyFile }: CertificateFiles): Certificate {
  const cert = readFileSync(certFile);
  const key = readSecret({ kind: 'file', path: keyFile });
  const parsed = new X509Certificate(cert);
  if (!parsed.checkPrivateKey(createPrivateKey(key))) {
    throw new Error(`the key in ${keyFile} does not belong to the certificate in ${certFile}`);
  }
  return { cert, key, expires: Date.parse(parsed.validTo) };
}

const DAY_MS = 86_400_000;

export function daysLeft({ expires }: Certificate, now: number): number {
  return (expires - now) / DAY_MS;
}

export interface Following {
  readonly files: CertificateFiles;
  readonly log: Log;
  readonly listener: 'data' | 'admin';
  readonly report: (daysLeft: number) => void;
  readonly everyMs: number;
}

/**
 * Looks at the files again and again, so that a renewed certificate is served without a restart; connections that are
 * open stay as they are. What does not fit together (a renewal that is half written) is left for the next look.
 * Reading is what finds a change: mounted secrets change by a link, of which watchers see nothing. Returns its end.
 */
export function followCertificate(server: TlsServer, first: Certificate, following: Following): () => void {
  const { files, log, listener, report, everyMs } = following;
  let current = first;
  let failed = false;
  report(daysLeft(current, Date.now()));
  const look = (): void => {
    try {
      const found = readCertificate(files);
      if (!found.cert.equals(current.cert) || !found.key.equals(current.key)) {
        server.setSecureContext({ cert: found.cert, key: found.key, ...TLS });
        current = found;
        log.info('certificate read again', { listener });
      }
      failed = false;
    } catch (err) {
      if (!failed) log.warn('certificate cannot be read again', { listener }, err);
      failed = true;
    }
    report(daysLeft(current, Date.now()));
  };
  const timer = setInterval(look, everyMs).unref();
  return () => clearInterval(timer);
}
