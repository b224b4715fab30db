"""What one boto3 does, step by step: reads {"step": name} lines, answers {} or {"error": text}."""
import hashlib
import json
import os
import sys
import traceback
import urllib.request
import ssl

import boto3
import botocore
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

PLACE = json.loads(os.environ["PLACE"])
BUCKET, OTHER, KMS_KEY = PLACE["bucket"], PLACE["other"], PLACE["kmsKey"]
PART = PLACE["partSize"]
TRANSFER = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=3)

s3 = boto3.client(
    "s3",
    endpoint_url=PLACE["endpoint"],
    region_name="us-east-1",
    verify=PLACE["caFile"] or None,
    config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
)


def read(path):
    with open(path, "rb") as file:
        return file.read()


SMALL, LARGE = read(PLACE["small"]), read(PLACE["large"])
CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": read(PLACE["key"])}
WRONG = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": read(PLACE["wrongKey"])}


def same(actual, expected):
    if actual != expected:
        if isinstance(actual, bytes):
            actual, expected = hashlib.sha256(actual).hexdigest(), hashlib.sha256(expected).hexdigest()
        raise AssertionError(f"{actual!r} is not {expected!r}")


def both(bucket, prefix, **extra):
    s3.put_object(Bucket=bucket, Key=f"{prefix}/small", Body=SMALL, **extra)
    s3.upload_file(PLACE["large"], bucket, f"{prefix}/large", ExtraArgs=extra, Config=TRANSFER)


def upload():
    put = s3.put_object(Bucket=BUCKET, Key="small.bin", Body=SMALL, Metadata={"colour": "blue"}, ContentType="text/x-small")
    same(put["ServerSideEncryption"], "aws:kms")


def multipart():
    s3.upload_file(PLACE["large"], BUCKET, "large.bin", Config=TRANSFER)


def head():
    got = s3.head_object(Bucket=BUCKET, Key="small.bin")
    same((got["ContentLength"], got["ContentType"], got["Metadata"]), (len(SMALL), "text/x-small", {"colour": "blue"}))
    same(got["SSEKMSKeyId"].endswith(f"key/{KMS_KEY}"), True)


def list_():
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 1})
    found = [(item["Key"], item["Size"]) for page in pages for item in page["Contents"]]
    same(found, [("large.bin", len(LARGE)), ("small.bin", len(SMALL))])


def download():
    """download_file reads parts at once, each with If-Match of the HEAD's ETag."""
    s3.download_file(BUCKET, "large.bin", "large.back", Config=TRANSFER)
    same(read("large.back"), LARGE)
    same(s3.get_object(Bucket=BUCKET, Key="small.bin")["Body"].read(), SMALL)


def range_():
    got = s3.get_object(Bucket=BUCKET, Key="large.bin", Range=f"bytes={PART - 7}-{PART + 7}")
    same(got["Body"].read(), LARGE[PART - 7 : PART + 8])


def copy():
    s3.copy_object(Bucket=BUCKET, Key="copy/small", CopySource={"Bucket": BUCKET, "Key": "small.bin"})


def copy_in_parts():
    s3.copy({"Bucket": BUCKET, "Key": "large.bin"}, BUCKET, "copy/parts", Config=TRANSFER)


def presign():
    context = ssl.create_default_context(cafile=PLACE["caFile"] or None)
    names = {"Bucket": BUCKET, "Key": "presigned"}
    put = urllib.request.Request(s3.generate_presigned_url("put_object", names), data=SMALL, method="PUT")
    put.add_header("content-type", "")
    with urllib.request.urlopen(put, context=context) as answer:
        same(answer.status, 200)
    with urllib.request.urlopen(s3.generate_presigned_url("get_object", names), context=context) as answer:
        same(answer.read(), SMALL)


def sse_s3():
    both(BUCKET, "sse-s3", ServerSideEncryption="AES256")


def sse_kms():
    both(OTHER, "sse-kms", ServerSideEncryption="aws:kms", SSEKMSKeyId=KMS_KEY)


def sse_c():
    both(OTHER, "sse-c", **CUSTOMER)
    s3.download_file(OTHER, "sse-c/large", "sse-c.back", ExtraArgs=CUSTOMER, Config=TRANSFER)
    same(read("sse-c.back"), LARGE)


def sse_c_wrong_key():
    try:
        s3.get_object(Bucket=OTHER, Key="sse-c/small", **WRONG)
    except ClientError as error:
        same(error.response["Error"]["Code"], "AccessDenied")
    else:
        raise AssertionError("a wrong key read the object")


def sse_c_over_http():
    try:
        both(OTHER, "sse-c", **CUSTOMER)
    except ClientError as error:
        same(error.response["Error"]["Code"], "InvalidRequest")
    else:
        raise AssertionError("SSE-C over HTTP was taken")


def delete():
    s3.delete_object(Bucket=BUCKET, Key="small.bin")
    left = [{"Key": item["Key"]} for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": left})
    same(answer.get("Errors", []), [])
    same(s3.list_objects_v2(Bucket=BUCKET)["KeyCount"], 0)


STEPS = {
    "upload": upload,
    "multipart": multipart,
    "head": head,
    "list": list_,
    "download": download,
    "range": range_,
    "copy": copy,
    "copy in parts": copy_in_parts,
    "presign": presign,
    "SSE-S3": sse_s3,
    "SSE-KMS": sse_kms,
    "SSE-C": sse_c,
    "SSE-C, wrong key": sse_c_wrong_key,
    "SSE-C over HTTP": sse_c_over_http,
    "delete": delete,
}

print(json.dumps({"version": boto3.__version__, "botocore": botocore.__version__}), flush=True)
for line in sys.stdin:
    try:
        STEPS[json.loads(line)["step"]]()
        print("{}", flush=True)
    except Exception:  # every failure is an answer
        print(json.dumps({"error": traceback.format_exc(limit=-3)}), flush=True)
