import { ServiceError } from '../errors.ts';
import { childrenOf, parseXml as readXml, S3_NAMESPACE, textOf, type XmlElement } from '../s3/xml.ts';

type Leaf = string | number | boolean;
/** Elements by name. */
export type Node = Leaf | { readonly [name: string]: Node | readonly Node[] | undefined };

/** The one root element `root`; everything else is MalformedXML. */
export function parseXml(body: Buffer, root: string): Element {
  return new Element(readXml(body, root));
}

/** Reads children by name; what is not there, or is there twice when one is asked for, is MalformedXML. */
export class Element {
  readonly #element: XmlElement;

  constructor(element: XmlElement) {
    this.#element = element;
  }

  text(name: string): string {
    const text = this.optionalText(name);
    if (text === undefined) throw new ServiceError('MalformedXML');
    return text;
  }

  optionalText(name: string): string | undefined {
    return textOf(this.#element, name);
  }

  all(name: string): Element[] {
    return childrenOf(this.#element, name).map((child) => new Element(child));
  }
}

/** An S3 answer: `root` with its content, in the S3 namespace (errors have none). */
export function formatXml(root: string, content: Node, namespace = true): string {
  const attribute = namespace ? ` xmlns="${S3_NAMESPACE}"` : '';
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
