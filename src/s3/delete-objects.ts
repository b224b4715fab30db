import { ServiceError, type ErrorCode } from '../errors.ts';
import { assertKey } from './names.ts';
import { childrenOf, document, element, parseXml, readStoreXml, textOf, type XmlElement } from './xml.ts';

/** One object of a DeleteObjects request; the conditions are of newer clients. */
export interface DeleteEntry {
  readonly key: string;
  readonly versionId?: string;
  readonly etag?: string;
  readonly lastModifiedTime?: string;
  readonly size?: string;
}

export interface DeleteRequest {
  readonly quiet: boolean;
  readonly objects: readonly DeleteEntry[];
}

/** S3 "DeleteObjects": at most 1,000 keys. */
const MAX_OBJECTS = 1000;
/** Keys and version ids of 1,024 bytes, every byte a reference, and the markup around them. */
export const DELETE_BODY_LIMIT = 2 * 1024 * 1024;
const FIELDS = {
  versionId: 'VersionId',
  etag: 'ETag',
  lastModifiedTime: 'LastModifiedTime',
  size: 'Size',
} as const;

export function parseDeleteObjects(body: Uint8Array): DeleteRequest {
  const root = parseXml(body, 'Delete');
  const objects = childrenOf(root, 'Object');
  if (objects.length === 0 || objects.length > MAX_OBJECTS) throw new ServiceError('MalformedXML');
  const quiet = textOf(root, 'Quiet') ?? 'false';
  if (quiet !== 'true' && quiet !== 'false') throw new ServiceError('MalformedXML');
  return {
    quiet: quiet === 'true',
    objects: objects.map((object) => {
      const key = textOf(object, 'Key');
      if (key === undefined) throw new ServiceError('MalformedXML');
      assertEntryKey(key);
      const entry: { -readonly [K in keyof DeleteEntry]: DeleteEntry[K] } = { key };
      for (const [field, name] of Object.entries(FIELDS) as [keyof typeof FIELDS, string][]) {
        const value = textOf(object, name);
        // An empty VersionId is what some clients write for none.
        if (value !== undefined && value !== '') entry[field] = value;
      }
      return entry;
    }),
  };
}

/** Here a bad key is a fault of the body, not of the request's path. */
function assertEntryKey(key: string): void {
  try {
    assertKey(key);
  } catch (err) {
    if (err instanceof ServiceError && err.code === 'KeyTooLongError') throw err;
    throw new ServiceError('MalformedXML', { cause: err });
  }
}

export type DeleteOutcome =
  | {
      readonly kind: 'deleted';
      readonly key: string;
      readonly versionId?: string;
      readonly deleteMarker?: boolean;
      readonly deleteMarkerVersionId?: string;
    }
  | {
      readonly kind: 'error';
      readonly key: string;
      readonly versionId?: string;
      readonly code: ErrorCode;
      readonly message: string;
    };

/** The body of DeleteObjects' answer; with `quiet` only errors are told. */
export function formatDeleteResult(outcomes: readonly DeleteOutcome[], quiet: boolean): string {
  return document(
    'DeleteResult',
    outcomes.map((outcome) => {
      const name = [element('Key', outcome.key), element('VersionId', outcome.versionId)];
      if (outcome.kind === 'error') {
        return element('Error', [...name, element('Code', outcome.code), element('Message', outcome.message)]);
      }
      if (quiet) return '';
      return element('Deleted', [
        ...name,
        element('DeleteMarker', outcome.deleteMarker === true ? true : undefined),
        element('DeleteMarkerVersionId', outcome.deleteMarkerVersionId),
      ]);
    }),
  );
}

/** The body for the store's own DeleteObjects: never quiet, so that every key's outcome is known. */
export function formatDeleteRequest(objects: readonly DeleteEntry[]): string {
  return document(
    'Delete',
    objects.map((object) =>
      element('Object', [
        element('Key', object.key),
        element('VersionId', object.versionId),
        element('ETag', object.etag),
        element('LastModifiedTime', object.lastModifiedTime),
        element('Size', object.size),
      ]),
    ),
  );
}

/** What the store says of each key. A code that is not in our table is left for the caller to map. */
export interface StoreDeleteOutcome {
  readonly key: string;
  readonly versionId?: string;
  readonly deleteMarker?: boolean;
  readonly deleteMarkerVersionId?: string;
  readonly errorCode?: string;
}

export function parseDeleteResult(body: Uint8Array): readonly StoreDeleteOutcome[] {
  return readStoreXml(body, 'DeleteResult', (root) => root.children.flatMap(readOutcome));
}

function readOutcome(child: XmlElement): readonly StoreDeleteOutcome[] {
  if (child.name !== 'Deleted' && child.name !== 'Error') return [];
  const versionId = textOf(child, 'VersionId');
  const marker = textOf(child, 'DeleteMarkerVersionId');
  return [
    {
      key: textOf(child, 'Key') ?? '',
      ...(versionId === undefined || versionId === '' ? {} : { versionId }),
      ...(textOf(child, 'DeleteMarker') === 'true' ? { deleteMarker: true } : {}),
      ...(marker === undefined || marker === '' ? {} : { deleteMarkerVersionId: marker }),
      ...(child.name === 'Error' ? { errorCode: textOf(child, 'Code') ?? 'InternalError' } : {}),
    },
  ];
}
