import { trimBlanks } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import type { PostObject } from './operation.ts';
import { childOf, childrenOf, element, parseXml, textOf } from './xml.ts';

type Fields = ReadonlyMap<string, string>;

/** Headers of PutObject that a form gives under their own names; those that begin with `x-amz-` are taken too. */
const CONTENT = new Set([
  'cache-control',
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-md5',
  'content-type',
  'expires',
]);
/** The form's own; `x-amz-security-token` never gets here. */
const AUTHENTICATION = new Set(['x-amz-algorithm', 'x-amz-credential', 'x-amz-date', 'x-amz-signature']);

/** The headers that a form's fields stand for (AWS "POST Object", form fields), as bytes in latin1. */
export function formHeaders(fields: Fields): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [field, text] of fields) {
    const name = field === 'acl' || field === 'tagging' ? `x-amz-${field}` : field;
    if (!CONTENT.has(name) && (!name.startsWith('x-amz-') || AUTHENTICATION.has(name))) continue;
    const plain = field === 'tagging' ? tagsOf(text) : text;
    // As they would have come in a head, which knows no blanks around a value.
    const value = trimBlanks(Buffer.from(plain, 'utf8').toString('latin1'));
    const isHeader = /^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name) && /^[\t\x20-\x7e\x80-\xff]*$/.test(value);
    if (!isHeader || headers[name] !== undefined) {
      throw new ServiceError('InvalidArgument', {
        message: 'A form field cannot stand for a header.',
        reason: 'form-field',
      });
    }
    headers[name] = value;
  }
  return headers;
}

/** The XML of the field `tagging`, as the header has it. */
function tagsOf(xml: string): string {
  const set = childOf(parseXml(Buffer.from(xml, 'utf8'), 'Tagging'), 'TagSet');
  if (set === undefined) throw new ServiceError('MalformedXML');
  const encode = (text: string | undefined): string => {
    if (text === undefined) throw new ServiceError('MalformedXML');
    return encodeURIComponent(text);
  };
  return childrenOf(set, 'Tag')
    .map((tag) => `${encode(textOf(tag, 'Key'))}=${encode(textOf(tag, 'Value'))}`)
    .join('&');
}

/** What the answer is to be. An unknown status is 204, and what is no URL is passed over, as at AWS. */
export function formAnswer(fields: Fields): Pick<PostObject, 'success' | 'redirect'> {
  const status = fields.get('success_action_status');
  const redirect = fields.get('success_action_redirect') ?? fields.get('redirect') ?? '';
  const url = URL.canParse(redirect) ? new URL(redirect) : undefined;
  return {
    success: status === '200' ? 200 : status === '201' ? 201 : 204,
    ...(url?.protocol === 'https:' || url?.protocol === 'http:' ? { redirect: url.href } : {}),
  };
}

export interface Posted {
  readonly location: string;
  readonly bucket: string;
  readonly key: string;
  readonly etag: string;
}

/** The body of 201. It has no namespace. */
export function formatPostResponse({ location, bucket, key, etag }: Posted): string {
  const fields = [element('Location', location), element('Bucket', bucket), element('Key', key), element('ETag', etag)];
  return `<?xml version="1.0" encoding="UTF-8"?>\n${element('PostResponse', fields)}`;
}

/** Where a browser is sent: the address of the form with what was stored. */
export function redirectTo(redirect: string, { bucket, key, etag }: Posted): string {
  const url = new URL(redirect);
  for (const [name, value] of Object.entries({ bucket, key, etag })) url.searchParams.append(name, value);
  return url.href;
}
