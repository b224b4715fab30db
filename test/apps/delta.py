"""What one process does with a Delta table: delta.py STEP [ARGUMENT...], its answer as JSON on stdout.

`settings` is the block of docs/APPLICATIONS.md.
"""

import json
import os
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from settings import files, storage_options, table


def opened(version=None):
    return DeltaTable(table, version=version, storage_options=storage_options)


def rows(writer, round_, count, note):
    names = [f"{writer}/{round_}/{i}" for i in range(count)]
    return pa.table({"name": names, "note": [note] * count, "size": list(range(count))})


def create(count, note):
    """One file of many row groups: a reader of one column must not fetch the others."""
    write_deltalake(table, rows("first", 0, int(count), note), storage_options=storage_options)
    return {}


def append(writer, others, rounds, note):
    """One commit a round, on the version that all writers have opened before the first of them commits."""
    for round_ in range(int(rounds)):
        seen = opened()
        meet(round_, [writer, *others.split(",")])
        write_deltalake(seen, rows(writer, round_, 10, note), mode="append")
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
    now = opened()
    names = now.to_pyarrow_table(columns=["name"])["name"].to_pylist()
    return {"version": now.version(), "names": names, "files": len(now.file_uris())}


def read_version(version):
    return {"rows": opened(int(version)).to_pyarrow_table(columns=["name"]).num_rows}


def columns():
    """The sum of one column, straight from the Parquet files."""
    paths = [uri.removeprefix("s3://") for uri in opened().file_uris()]
    return {"sum": sum(sum(pq.read_table(p, columns=["size"], filesystem=files)["size"].to_pylist()) for p in paths)}


def care():
    """What the owner of a table runs at night."""
    now = opened()
    now.optimize.compact()
    now.create_checkpoint()
    removed = now.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    return {"removed": len(removed)}


step, *arguments = sys.argv[1:]
STEPS = {f.__name__: f for f in (create, append, read, read_version, columns, care)}
print(json.dumps(STEPS[step](*arguments)), flush=True)
# On a busy machine threads of pyarrow abort a process whose interpreter ends under them.
os._exit(0)
