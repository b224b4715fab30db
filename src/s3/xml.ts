import { ServiceError } from '../errors.ts';

/**
 * Strict XML in, XML out. Our own reader, because the one at hand (fast-xml-parser 5) closes `<a></b>` in silence,
 * drops what follows the root, and takes 25 ms with its validator for a listing of 1,000 keys; this one takes 3. It
 * reads elements, text, CDATA, comments and processing instructions; attributes are checked and dropped; a DOCTYPE,
 * an entity beyond the five and numeric references, more than `MAX_DEPTH` levels or `MAX_TAGS` tags are refused. Text
 * is never trimmed and never becomes a number. The tests hold it against fast-xml-parser.
 */
export interface XmlElement {
  /** Without its namespace prefix. */
  readonly name: string;
  readonly text: string;
  readonly children: readonly XmlElement[];
}

interface OpenElement extends XmlElement {
  readonly qualified: string;
  text: string;
  readonly children: OpenElement[];
}

export const S3_NAMESPACE = 'http://s3.amazonaws.com/doc/2006-03-01/';
const MAX_DEPTH = 24;
/** A list of 10,000 buckets has 100,000 tags; 8 MiB of `<a/>` would be two million, and hold everybody for seconds. */
const MAX_TAGS = 131_072;
const TAG =
  /<(?:\/([A-Za-z_][\w.:-]*)\s*|([A-Za-z_][\w.:-]*)(?:\s+[A-Za-z_][\w.:-]*\s*=\s*(?:"[^"<]*"|'[^'<]*'))*\s*(\/)?)>/y;
/** What XML 1.0 section 2.2 keeps out of a document. */
const ILLEGAL = /[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/;
const REFERENCE = /&(?:#(\d{1,7})|#x([\da-fA-F]{1,6})|(amp|lt|gt|quot|apos));|&/g;
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function malformed(cause?: unknown): ServiceError {
  return new ServiceError('MalformedXML', { cause });
}

/** The root element. Throws MalformedXML for anything that is not one whole, well-formed document of `rootName`. */
export function parseXml(bytes: Uint8Array, rootName?: string): XmlElement {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw malformed(cause);
  }
  if (ILLEGAL.test(text)) throw malformed();
  const root = read(text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text);
  if (rootName !== undefined && root.name !== rootName) throw malformed();
  return root;
}

function read(text: string): XmlElement {
  const document: OpenElement = { name: '', qualified: '', text: '', children: [] };
  const open = [document];
  let tags = 0;
  for (let at = 0; at < text.length;) {
    const current = open[open.length - 1] ?? document;
    if (text.charCodeAt(at) === 0x3c && (tags += 1) > MAX_TAGS) throw malformed();
    if (text.charCodeAt(at) !== 0x3c) {
      const end = text.indexOf('<', at);
      const next = end === -1 ? text.length : end;
      current.text += decodeReferences(text.slice(at, next));
      at = next;
    } else if (text.charCodeAt(at + 1) === 0x21 || text.charCodeAt(at + 1) === 0x3f) {
      at = readSpecial(text, at, current);
    } else {
      at = readTag(text, at, current, open);
    }
  }
  const root = document.children[0];
  // The document itself holds one element and white space, and everything that was opened is closed.
  if (open.length !== 1 || root === undefined || document.children.length > 1 || /\S/.test(document.text)) {
    throw malformed();
  }
  return root;
}

function readTag(text: string, at: number, current: OpenElement, open: OpenElement[]): number {
  TAG.lastIndex = at;
  const match = TAG.exec(text);
  if (match === null) throw malformed();
  const [, closing, opening, empty] = match;
  if (opening === undefined) {
    if (closing !== current.qualified || open.length === 1) throw malformed();
    open.pop();
    return TAG.lastIndex;
  }
  const colon = opening.indexOf(':');
  const name = colon === -1 ? opening : opening.slice(colon + 1);
  const element: OpenElement = { name, qualified: opening, text: '', children: [] };
  current.children.push(element);
  if (empty === undefined && open.push(element) > MAX_DEPTH) throw malformed();
  return TAG.lastIndex;
}

/** Comment, CDATA or processing instruction at `at`; a DOCTYPE or anything else that begins with `<!` is refused. */
function readSpecial(text: string, at: number, current: OpenElement): number {
  const until = (from: number, mark: string): number => {
    const end = text.indexOf(mark, from);
    if (end === -1) throw malformed();
    return end;
  };
  if (text.startsWith('<?', at)) return until(at + 2, '?>') + 2;
  if (text.startsWith('<!--', at)) return until(at + 4, '-->') + 3;
  if (!text.startsWith('<![CDATA[', at) || current.name === '') throw malformed();
  const end = until(at + 9, ']]>');
  current.text += text.slice(at + 9, end);
  return end + 3;
}

function decodeReferences(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(REFERENCE, (_, decimal?: string, hex?: string, name?: string) => {
    if (name !== undefined) return ENTITIES[name] ?? '';
    const code = decimal !== undefined ? Number(decimal) : parseInt(hex ?? '', 16);
    // AWS writes control characters of keys as references, which XML 1.0 forbids; NUL and surrogates nobody writes.
    if (!(code > 0 && code <= 0x10ffff) || (code >= 0xd800 && code <= 0xdfff)) throw malformed();
    return String.fromCodePoint(code);
  });
}

/** The only child of that name; two are malformed where one is meant. */
export function childOf(element: XmlElement, name: string): XmlElement | undefined {
  let found: XmlElement | undefined;
  for (const child of element.children) {
    if (child.name !== name) continue;
    if (found !== undefined) throw malformed();
    found = child;
  }
  return found;
}

/** The text of the only child of that name, untrimmed; a child that has children of its own is malformed. */
export function textOf(element: XmlElement, name: string): string | undefined {
  const child = childOf(element, name);
  if (child !== undefined && child.children.length > 0) throw malformed();
  return child?.text;
}

export function childrenOf(element: XmlElement, name: string): readonly XmlElement[] {
  return element.children.filter((child) => child.name === name);
}

/** What may have to be escaped, surrogate pairs included: most texts have none of it, and the test is cheap. */
const SUSPECT = /[&<>"'\r\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]/;
const SPECIAL = /[&<>"'\r\0-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]|\p{Surrogate}/gu;
const ESCAPED: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
  '\r': '&#13;',
};

/** Text for XML: control characters as references, as AWS writes them; NUL and lone surrogates as U+FFFD. */
export function escapeXml(text: string): string {
  if (!SUSPECT.test(text)) return text;
  return text.replace(SPECIAL, (char) => {
    const code = char.charCodeAt(0);
    if (code === 0 || code >= 0xd800) return '\ufffd';
    return ESCAPED[char] ?? `&#${code};`;
  });
}

/** One element; `undefined` gives nothing at all, text is escaped, an array is markup that is finished already. */
export function element(name: string, content: string | number | boolean | readonly string[] | undefined): string {
  if (content === undefined) return '';
  const inner = Array.isArray(content) ? content.join('') : escapeXml(String(content));
  return `<${name}>${inner}</${name}>`;
}

/** A whole document in S3's namespace. */
export function document(root: string, children: readonly string[]): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<${root} xmlns="${S3_NAMESPACE}">${children.join('')}</${root}>`;
}

export interface ErrorContext {
  /** The path of the request, as the client wrote it. */
  readonly resource: string;
  readonly requestId: string;
}

/** The body of an error (S3 "REST error responses"); it has no namespace. */
export function formatError(error: ServiceError, { resource, requestId }: ErrorContext): string {
  const children = [
    element('Code', error.code),
    element('Message', error.message),
    element('Resource', resource),
    element('RequestId', requestId),
  ];
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Error>${children.join('')}</Error>`;
}

/**
 * Reads an answer of the store. What is not this document is an InternalError (reason `store-xml`): the client has not
 * sent it, and may ask again.
 */
export function readStoreXml<T>(bytes: Uint8Array, rootName: string | undefined, read: (root: XmlElement) => T): T {
  try {
    return read(parseXml(bytes, rootName));
  } catch (cause) {
    throw badAnswer(cause);
  }
}

export function badAnswer(cause?: unknown): ServiceError {
  return new ServiceError('InternalError', { reason: 'store-xml', cause });
}

/** The Code of a store's error body; undefined when it is no such thing. Never throws: an error is at hand already. */
export function parseErrorCode(bytes: Uint8Array): string | undefined {
  try {
    return textOf(parseXml(bytes, 'Error'), 'Code');
  } catch {
    return undefined;
  }
}
