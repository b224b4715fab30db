/** Conditional headers of a request, as the client sent them. */
export interface Conditions {
  readonly ifMatch?: string;
  readonly ifNoneMatch?: string;
  readonly ifModifiedSince?: string;
  readonly ifUnmodifiedSince?: string;
}

/** What they are compared with. */
export interface Validators {
  /** The client's form of the ETag, with or without quotes. */
  readonly etag: string;
  readonly lastModified: Date;
}

export function conditionsOf(headers: Readonly<Record<string, string>>): Conditions {
  const pick = (field: keyof Conditions, name: string): Conditions =>
    headers[name] === undefined ? {} : { [field]: headers[name] };
  return {
    ...pick('ifMatch', 'if-match'),
    ...pick('ifNoneMatch', 'if-none-match'),
    ...pick('ifModifiedSince', 'if-modified-since'),
    ...pick('ifUnmodifiedSince', 'if-unmodified-since'),
  };
}

/**
 * RFC 9110 section 13.2.2, for GET and HEAD: If-Match beats If-Unmodified-Since, If-None-Match beats
 * If-Modified-Since, and a failed precondition (412) beats 304. A date that is none is ignored (section 13.1.3).
 */
export function evaluateConditions(conditions: Conditions, found: Validators): 'go' | 'failed' | 'not-modified' {
  const { ifMatch, ifNoneMatch, ifModifiedSince, ifUnmodifiedSince } = conditions;
  // HTTP dates have whole seconds.
  const modified = Math.floor(found.lastModified.getTime() / 1000) * 1000;
  if (ifMatch !== undefined) {
    if (!listsTag(ifMatch, found.etag, false)) return 'failed';
  } else if (ifUnmodifiedSince !== undefined && modified > httpDate(ifUnmodifiedSince)) {
    return 'failed';
  }
  if (ifNoneMatch !== undefined) return listsTag(ifNoneMatch, found.etag, true) ? 'not-modified' : 'go';
  return ifModifiedSince !== undefined && modified <= httpDate(ifModifiedSince) ? 'not-modified' : 'go';
}

/** NaN for what is no date: it compares false. */
export function httpDate(text: string): number {
  return /^[A-Za-z]{3,9}, /.test(text) ? Date.parse(text) : NaN;
}

/** Strong comparison for If-Match, weak for If-None-Match (sections 13.1.1 and 13.1.2); S3 clients may omit quotes. */
function listsTag(list: string, etag: string, weak: boolean): boolean {
  const bare = etag.replace(/^"(.*)"$/, '$1');
  return list.split(',').some((item) => {
    const tag = item.trim();
    if (tag === '*') return true;
    if (tag.startsWith('W/')) return weak && tag.slice(2) === `"${bare}"`;
    return tag === bare || tag === `"${bare}"`;
  });
}
