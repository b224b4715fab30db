import { XMLParser, XMLValidator } from 'fast-xml-parser';
import { ServiceError } from '../errors.ts';

type Leaf = string | number | boolean;
/** Elements by name. */
export type Node = Leaf | { readonly [name: string]: Node | readonly Node[] | undefined };

/** Values stay the strings they were: `00123` is no number, blanks are part of a key, entities are decoded below. */
const parser = new XMLParser({
  ignoreAttributes: true,
  removeNSPrefix: true,
  parseTagValue: false,
  trimValues: false,
  processEntities: false,
  ignoreDeclaration: true,
});

const NAMESPACE = 'http://s3.amazonaws.com/doc/2006-03-01/';
const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

/** The content of the one root element `root`; everything else is MalformedXML. */
export function parseXml(body: Buffer, root: string): Element {
  const text = body.toString('utf8');
  // A document type can define entities (expansion, files): there is no use for one here.
  if (/<!(?:DOCTYPE|ENTITY)/i.test(text)) throw new ServiceError('MalformedXML');
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- its successor is a package more for the same code
  if (XMLValidator.validate(text) !== true) throw new ServiceError('MalformedXML');
  const document: unknown = parser.parse(text);
  const content = isRecord(document) ? document[root] : undefined;
  if (content === undefined) throw new ServiceError('MalformedXML');
  return new Element(isRecord(content) ? content : {});
}

/** Reads children by name; what is not there, or is there twice when one is asked for, is MalformedXML. */
export class Element {
  readonly #children: Readonly<Record<string, unknown>>;

  constructor(children: Readonly<Record<string, unknown>>) {
    this.#children = children;
  }

  text(name: string): string {
    const text = this.optionalText(name);
    if (text === undefined) throw new ServiceError('MalformedXML');
    return text;
  }

  optionalText(name: string): string | undefined {
    const value = this.#children[name];
    if (value === undefined) return undefined;
    if (typeof value !== 'string') throw new ServiceError('MalformedXML');
    return value.replace(/&([^;]*);?/g, (_, entity: string) => decodeEntity(entity));
  }

  all(name: string): Element[] {
    const value = this.#children[name];
    const list: unknown[] = Array.isArray(value) ? value : value === undefined ? [] : [value];
    return list.map((item) => new Element(isRecord(item) ? item : {}));
  }
}

function decodeEntity(entity: string): string {
  const numeric = /^#(?:x([0-9a-f]{1,6})|([0-9]{1,7}))$/i.exec(entity);
  const code = numeric ? Number.parseInt(numeric[1] ?? numeric[2] ?? '', numeric[1] === undefined ? 10 : 16) : -1;
  const text = code >= 0 && code <= 0x10ffff ? String.fromCodePoint(code) : ENTITIES[entity];
  if (text === undefined) throw new ServiceError('MalformedXML');
  return text;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An S3 answer: `root` with its content, in the S3 namespace (errors have none). */
export function formatXml(root: string, content: Node, namespace = true): string {
  const attribute = namespace ? ` xmlns="${NAMESPACE}"` : '';
  return `<?xml version="1.0" encoding="UTF-8"?>\n<${root}${attribute}>${formatContent(content)}</${root}>`;
}

/** A list stands for its element again and again; what is undefined is left out. */
function formatContent(node: Node): string {
  if (typeof node !== 'object') return escapeText(String(node));
  let text = '';
  for (const [name, value] of Object.entries<Node | readonly Node[] | undefined>(node)) {
    const items: readonly Node[] = isList(value) ? value : value === undefined ? [] : [value];
    for (const item of items) text += `<${name}>${formatContent(item)}</${name}>`;
  }
  return text;
}

function isList(value: unknown): value is readonly Node[] {
  return Array.isArray(value);
}

/** Control characters become numeric references: XML 1.0 has no better form, and AWS sends the same. */
function escapeText(text: string): string {
  return text.replace(/[&<>"'\u0000-\u001f]/g, (c) => `&#${c.charCodeAt(0)};`);
}
