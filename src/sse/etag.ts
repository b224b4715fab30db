/**
 * Client ETag and store ETag (docs/FORMAT.md has no say here; nothing of it is stored). A client's ETag is the store's
 * when it ends in `-<n>`, and the store's with `-01` otherwise: never 32 hex digits, which clients take for an MD5 of
 * the plaintext; and `-01` parses as one part but is no suffix that a store gives.
 */
const SUFFIX = '-01';
const REAL_SUFFIX = /-[1-9][0-9]*$/;
/** No store gives this one: a condition on an ETag that is not ours must simply not match. */
const IMPOSSIBLE_SUFFIX = '-00';
/** RFC 9110 entity tags, and the unquoted ones that S3 clients send. */
const TAG = /[ \t]*(?:(W\/)?"([^"]*)"|([^",\s]+))[ \t]*(,|$)/y;

function unquoted(etag: string): string {
  return etag.length > 1 && etag.startsWith('"') && etag.endsWith('"') ? etag.slice(1, -1) : etag;
}

/** The store's ETag as clients see it; quotes stay as they are. An empty one stays empty. */
export function toClientEtag(storeEtag: string): string {
  const bare = unquoted(storeEtag);
  if (bare === '' || REAL_SUFFIX.test(bare)) return storeEtag;
  return storeEtag.startsWith('"') ? `"${bare}${SUFFIX}"` : bare + SUFFIX;
}

/** A client's ETag, without quotes, as the store knows it; undefined when it is none of ours. */
export function toStoreEtag(clientEtag: string): string | undefined {
  const bare = unquoted(clientEtag);
  if (REAL_SUFFIX.test(bare)) return bare;
  if (!bare.endsWith(SUFFIX)) return undefined;
  const stripped = bare.slice(0, -SUFFIX.length);
  return stripped === '' || REAL_SUFFIX.test(stripped) ? undefined : stripped;
}

/**
 * The value of If-Match, If-None-Match and their copy-source forms towards the store: a tag, a list or `*`. A tag that
 * no object of ours can have becomes one that the store has not either, so that the store's own answer is right.
 * Undefined when the value is no list of tags.
 */
export function toStoreCondition(value: string): string | undefined {
  if (value.trim() === '*') return '*';
  const tags: string[] = [];
  TAG.lastIndex = 0;
  for (;;) {
    const match = TAG.exec(value);
    if (match === null) return undefined;
    const [, weak = '', quoted, bare, separator] = match;
    const tag = quoted ?? bare ?? '';
    tags.push(`${weak}"${toStoreEtag(tag) ?? tag + IMPOSSIBLE_SUFFIX}"`);
    if (separator === '') return tags.join(', ');
  }
}
