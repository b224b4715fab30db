/** JSON that means the same to every reader: no duplicate names, no `__proto__`, bounded depth (RFC 8259 section 4). */
export class JsonError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'JsonError';
  }
}

/**
 * Parses `text`. A JsonError never repeats a part of the text: V8's own message quotes what stands around the fault,
 * which may be a secret.
 */
export function parseJson(text: string, maxDepth = 32): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new JsonError('not valid JSON');
  }
  checkNames(text, maxDepth);
  return value;
}

/** One pass over text that is known to be valid JSON: depth, and the names within each object. */
function checkNames(text: string, maxDepth: number): void {
  const open: (Set<string> | undefined)[] = [];
  // In valid JSON a string is a name exactly when a colon follows it.
  const token = /"((?:[^"\\]|\\.)*)"(\s*:)?|[{}[\]]/g;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    switch (match[0]) {
      case '{':
      case '[':
        open.push(match[0] === '{' ? new Set() : undefined);
        if (open.length > maxDepth) throw new JsonError(`nested deeper than ${maxDepth} levels`);
        break;
      case '}':
      case ']':
        open.pop();
        break;
      default:
        if (match[2] !== undefined) addName(open.at(-1), match[1] ?? '');
    }
  }
}

function addName(names: Set<string> | undefined, raw: string): void {
  // Escapes are decoded: {"a":1,"\u0061":2} has one name twice.
  const name = raw.includes('\\') ? String(JSON.parse(`"${raw}"`)) : raw;
  const shown = name.slice(0, 64).replace(/[^\x20-\x7e]/g, '?');
  if (name === '__proto__') throw new JsonError('the name "__proto__" is refused');
  if (names?.has(name) === true) throw new JsonError(`the name "${shown}" is given twice`);
  names?.add(name);
}
