import { GetObjectTaggingCommand, type HeadObjectCommandOutput, type S3Client } from '@aws-sdk/client-s3';

/** What an object carries beside its bytes, as request headers: content headers, user metadata, storage class. */
export function keptHeaders(head: HeadObjectCommandOutput): Record<string, string> {
  const named: Readonly<Record<string, string | undefined>> = {
    'cache-control': head.CacheControl,
    'content-disposition': head.ContentDisposition,
    'content-encoding': head.ContentEncoding,
    'content-language': head.ContentLanguage,
    'content-type': head.ContentType,
    expires: head.ExpiresString,
    'x-amz-storage-class': head.StorageClass,
    'x-amz-website-redirect-location': head.WebsiteRedirectLocation,
  };
  const kept = Object.entries(named).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const metadata = Object.entries(head.Metadata ?? {}).map(([name, value]) => [`x-amz-meta-${name}`, value] as const);
  return Object.fromEntries([...kept, ...metadata]);
}

/** Tags as `x-amz-tagging` takes them; undefined where the object has none. */
export async function tagsOf(
  client: S3Client,
  place: { readonly Bucket: string; readonly Key: string },
  head: Pick<HeadObjectCommandOutput, 'TagCount'>,
): Promise<string | undefined> {
  if ((head.TagCount ?? 0) === 0) return undefined;
  const { TagSet = [] } = await client.send(new GetObjectTaggingCommand(place));
  return new URLSearchParams(TagSet.map(({ Key = '', Value = '' }): [string, string] => [Key, Value])).toString();
}
