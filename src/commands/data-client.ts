import { S3Client } from '@aws-sdk/client-s3';
import { readSecret, type Config } from '../config.ts';
import { trust } from './admin-call.ts';
import { CommandError } from './command.ts';

/** An S3 client of the running gateway, as the first data identity of the configuration or the one that is named. */
export function dataClient(config: Config, name: string | undefined): S3Client {
  const identity = config.identities.find((one) => one.plane !== 'admin' && (name === undefined || one.name === name));
  if (identity === undefined) throw new CommandError('the configuration names no such data identity');
  const secret = readSecret(identity.secret);
  const secretAccessKey = secret.toString('utf8').trimEnd();
  secret.fill(0);
  const { host, port, tls, region } = config.data;
  return new S3Client({
    endpoint: `${tls === undefined ? 'http' : 'https'}://${host}:${port}`,
    region,
    forcePathStyle: true,
    credentials: { accessKeyId: identity.accessKeyId, secretAccessKey },
    ...(tls === undefined ? {} : { requestHandler: { httpsAgent: trust(tls.certFile) } }),
  });
}
