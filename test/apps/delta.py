"""What one process does with a Delta table: delta.py TABLE-URI STEP [ARGUMENT...], its answer as JSON on stdout."""

import json
import os
import sys
import time
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

uri, step, *arguments = sys.argv[1:]
options = {
    "AWS_ENDPOINT_URL": os.environ["ENDPOINT"],
    "AWS_ALLOW_HTTP": "true",
    "AWS_REGION": "us-east-1",
}


def rows(writer, round_, count, note):
    names = [f"{writer}/{round_}/{i}" for i in range(count)]
    return pa.table({"name": names, "note": [note] * count, "size": list(range(count))})


def create(count, note):
    """One file of many row groups: a reader of one column must not fetch the others."""
    write_deltalake(uri, rows("first", 0, int(count), note), storage_options=options)
    return {}


def append(writer, others, rounds, note):
    """One commit a round, on the version that all writers have opened before the first of them commits."""
    for round_ in range(int(rounds)):
        table = DeltaTable(uri, storage_options=options)
        meet(round_, [writer, *others.split(",")])
        write_deltalake(table, rows(writer, round_, 10, note), mode="append")
    return {}


def meet(round_, writers):
    """Waits until everybody has come as far; the first name is one's own."""
    marks = [f"{os.environ['HOME']}/round-{round_}-{writer}" for writer in writers]
    open(marks[0], "w").close()
    until = time.monotonic() + 120
    while not all(os.path.exists(mark) for mark in marks):
        if time.monotonic() > until:
            sys.exit(f"round {round_}: nobody else came")
        time.sleep(0.002)


def read():
    table = DeltaTable(uri, storage_options=options)
    names = table.to_pyarrow_table(columns=["name"])["name"].to_pylist()
    return {"version": table.version(), "names": names, "files": len(table.file_uris())}


def read_version(version):
    table = DeltaTable(uri, version=int(version), storage_options=options)
    return {"rows": table.to_pyarrow_table(columns=["name"]).num_rows}


def columns():
    """With pyarrow's own S3 client: the sum of one column, straight from the Parquet files."""
    where = urlparse(os.environ["ENDPOINT"])
    files = pyarrow.fs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=where.netloc,
        scheme=where.scheme,
        region="us-east-1",
    )
    paths = [u.removeprefix("s3://") for u in DeltaTable(uri, storage_options=options).file_uris()]
    return {"sum": sum(sum(pq.read_table(p, columns=["size"], filesystem=files)["size"].to_pylist()) for p in paths)}


def care():
    """What the owner of a table runs at night."""
    table = DeltaTable(uri, storage_options=options)
    table.optimize.compact()
    table.create_checkpoint()
    removed = table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    return {"removed": len(removed)}


STEPS = {f.__name__: f for f in (create, append, read, read_version, columns, care)}
print(json.dumps(STEPS[step](*arguments)))
