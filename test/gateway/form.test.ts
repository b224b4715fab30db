import type { IncomingMessage } from 'node:http';
import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { readForm, signedForm } from '../../src/gateway/form.ts';

/** A form before anybody has verified: what it may cost. */
function request(...written: string[]): { readonly req: IncomingMessage; readonly body: PassThrough } {
  const body = new PassThrough();
  Object.assign(body, { headers: { 'content-type': 'multipart/form-data; boundary=b' }, complete: true });
  for (const text of written) body.write(text);
  return { req: body as unknown as IncomingMessage, body };
}

const field = (name: string, value: string): string =>
  `--b\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
const file = (name: string): string =>
  `--b\r\nContent-Disposition: form-data; name="file"; filename="${name}"\r\n\r\nx`;

it('its fields come within a time, however often a byte comes', async () => {
  const { req, body } = request(field('key', 'k'));
  const trickle = setInterval(() => body.write('-'), 10);
  await expect(readForm(req, 100)).rejects.toMatchObject({ code: 'RequestTimeout', reason: 'form-fields' });
  clearInterval(trickle);
});

it('its file has no such time', async () => {
  const { req, body } = request(field('key', 'k'), file('f'));
  const form = await readForm(req, 50);
  setTimeout(() => body.end('y\r\n--b--\r\n'), 150);
  const chunks: Buffer[] = [];
  for await (const chunk of form.file) chunks.push(chunk);
  expect(Buffer.concat(chunks).toString()).toBe('xy');
  await form.end;
});

it.each([
  ['a/${filename}/${filename}', 'x'.repeat(510), `a/${'x'.repeat(510)}/${'x'.repeat(510)}`],
  ['a/${filename}/${filename}', 'x'.repeat(511), 'KeyTooLongError'],
  ['${filename}'.repeat(1800), 'x'.repeat(8000), 'KeyTooLongError'],
  ['${filename}', "$&$1$'", "$&$1$'"],
])('the key is expanded to a key, or not at all: %#', async (key, filename, expected) => {
  const { req } = request(field('key', key), file(filename));
  const form = await readForm(req);
  const seen = (): string | undefined => signedForm(form, 'bucket').fields.get('key');
  if (expected === 'KeyTooLongError') expect(seen).toThrow(expect.objectContaining({ code: expected }));
  else expect(seen()).toBe(expected);
  form.cancel(new Error('over'));
});
