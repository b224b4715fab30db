import { XMLParser } from 'fast-xml-parser';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ServiceError } from '../../src/errors.ts';
import { document, element, formatError, parseErrorCode, parseXml, textOf } from '../../src/s3/xml.ts';
import { codeOf } from './errors.ts';

const root = (xml: string | Buffer) => parseXml(Buffer.from(xml));
const keyOf = (inner: string) => textOf(root(`<a><Key>${inner}</Key></a>`), 'Key');

describe('reading XML', () => {
  it.each([
    ['00123', '00123'],
    ['1e5', '1e5'],
    ['0x10', '0x10'],
    ['true', 'true'],
    ['  a  ', '  a  '],
    [' ', ' '],
    ['', ''],
    ['&#34;&#x22;&quot;', '"""'],
    ['&amp;&lt;&gt;&apos;', "&<>'"],
    ['&amp;#34;', '&#34;'],
    ['&#128512;&#x1F600;', '😀😀'],
    ['&#1;', '\u0001'],
    ['&#13;&#10;', '\r\n'],
    ['a\r\nb\rc', 'a\nb\nc'],
    ['<![CDATA[<&amp;>]]>', '<&amp;>'],
    ['a<![CDATA[]]]]><![CDATA[>]]>b', 'a]]>b'],
    ['a<!-- <Key>no</Key> -->b', 'ab'],
    ['a<?pi <x> ?>b', 'ab'],
    ['__proto__', '__proto__'],
    ['äöü€', 'äöü€'],
  ])('%j is the key %j', (inner, key) => expect(keyOf(inner)).toBe(key));

  it.each([
    '<ns:a xmlns:ns="urn:x"><ns:Key>k</ns:Key></ns:a>',
    '\ufeff<?xml version="1.0" encoding="UTF-8"?>\n<a xmlns="urn:x" b=\'&lt;\'>\n  <Key >k</Key >\n</a>\n',
    '<!-- c --><a><Other/><Key>k</Key><Other ></Other></a><!-- c -->',
    '<a><__proto__>x</__proto__><constructor/><Key>k</Key></a>',
  ])('%j has the key k', (xml) => expect(textOf(root(xml), 'Key')).toBe('k'));

  it.each([
    ['nothing', ''],
    ['text', 'x'],
    ['a tag that is closed by another', '<a><b></a>'],
    ['a root that is closed by another', '<a></b>'],
    ['crossed tags', '<a><b></a></b>'],
    ['an open root', '<a>'],
    ['a cut-off document', '<a><Key>k</Key>'],
    ['a cut-off tag', '<a></a'],
    ['two roots', '<a/><b/>'],
    ['text after the root', '<a/>x'],
    ['text before the root', 'x<a/>'],
    ['a closing tag alone', '</a>'],
    ['another prefix at the end', '<x:a></y:a>'],
    ['more tags than a listing of 10,000 buckets', `<a>${'<b/>'.repeat(131_071)}</a>`],
    ['more comments than that', `<a>${'<!---->'.repeat(131_071)}</a>`],
    ['a DOCTYPE', '<!DOCTYPE a><a/>'],
    ['a DOCTYPE in lower case', '<!doctype a><a/>'],
    ['an entity of its own', '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'],
    ['a DOCTYPE inside', '<a><!DOCTYPE a></a>'],
    ['an entity that nobody declared', '<a>&nbsp;</a>'],
    ['a bare ampersand', '<a>&</a>'],
    ['a reference without its end', '<a>&amp</a>'],
    ['NUL by reference', '<a>&#0;</a>'],
    ['a surrogate by reference', '<a>&#xD800;</a>'],
    ['a reference beyond Unicode', '<a>&#x110000;</a>'],
    ['a control character', '<a>\u0001</a>'],
    ['an open comment', '<a><!-- </a>'],
    ['an open CDATA', '<a><![CDATA[x</a>'],
    ['CDATA outside', '<a/><![CDATA[x]]>'],
    ['an attribute without quotes', '<a b=c/>'],
    ['an attribute without value', '<a b/>'],
    ['a less-than in an attribute', '<a b="<"/>'],
    ['a tag that begins with a digit', '<1/>'],
    ['too many levels', `${'<a>'.repeat(25)}${'</a>'.repeat(25)}`],
  ])('%s is MalformedXML', (_, xml) => expect(codeOf(() => root(xml))).toBe('MalformedXML'));

  it('is MalformedXML when it is no UTF-8', () => {
    expect(codeOf(() => root(Buffer.from('<a>\xff</a>', 'latin1')))).toBe('MalformedXML');
  });

  it('names the root that is wanted', () => {
    expect(codeOf(() => parseXml(Buffer.from('<a/>'), 'b'))).toBe('MalformedXML');
  });

  it.each(['<a><Key>1</Key><Key>2</Key></a>', '<a><Key><b/></Key></a>'])('%s has no one key', (xml) => {
    expect(codeOf(() => textOf(root(xml), 'Key'))).toBe('MalformedXML');
  });

  it('takes no quadratic time over what never ends', () => {
    const begun = performance.now();
    const hostile = [`<a${' '.repeat(2e5)}`, `<a ${'b="c" '.repeat(4e4)}`, `<a>${'&'.repeat(2e5)}`, '<'.repeat(2e5)];
    for (const xml of hostile) expect(codeOf(() => root(xml))).toBe('MalformedXML');
    expect(performance.now() - begun).toBeLessThan(1000);
  });
});

describe('writing XML', () => {
  const text = fc.string({ unit: 'binary' }).map((value) => value.replaceAll('\0', ''));

  it('is read back as it was', () => {
    fc.assert(
      fc.property(text, (value) => {
        const wanted = value.replace(/[\ufffe\uffff]/g, '\ufffd');
        expect(textOf(root(document('a', [element('Key', value)])), 'Key')).toBe(wanted);
      }),
    );
  });

  it('is read alike by an independent parser', () => {
    const options = { parseTagValue: false, trimValues: false, htmlEntities: true, ignoreDeclaration: true };
    const parser = new XMLParser(options);
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), (value) => {
        const xml = document('a', [element('Key', value)]);
        expect((parser.parse(xml) as { a: { Key: string } }).a.Key).toBe(value);
      }),
    );
  });

  it('keeps markup out of text', () => {
    expect(element('Key', '</Key>&"\'\r\u0000\u0001')).toBe('<Key>&lt;/Key&gt;&amp;&quot;&apos;&#13;\ufffd&#1;</Key>');
  });

  it('writes nothing for undefined, and an empty element for nothing', () => {
    expect([element('A', undefined), element('A', ''), element('A', [])]).toEqual(['', '<A></A>', '<A></A>']);
  });
});

describe('errors', () => {
  it('have Code, Message, Resource and RequestId', () => {
    const error = new ServiceError('NoSuchKey', { reason: 'private', cause: new Error('secret') });
    expect(formatError(error, { resource: '/b/<k>', requestId: 'R1' })).toBe(
      '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>' +
        '<Message>The specified key does not exist.</Message><Resource>/b/&lt;k&gt;</Resource>' +
        '<RequestId>R1</RequestId></Error>',
    );
  });

  it.each([
    ['<Error><Code>NoSuchKey</Code></Error>', 'NoSuchKey'],
    ['<Error/>', undefined],
    ['<html>', undefined],
    ['', undefined],
    ['<Error><Code>a</Code><Code>b</Code></Error>', undefined],
  ])('the code of %j is %s', (xml, code) => expect(parseErrorCode(Buffer.from(xml))).toBe(code));
});
