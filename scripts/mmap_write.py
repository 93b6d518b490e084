r"""Create a mapped file of struct records from a CSV file, or update a record in place.

    $ printf 'amy,20\nbob,31\n' > people.csv
    $ python scripts/mmap_write.py people.csv people.dat
    $ python scripts/mmap_write.py people.dat --update amy 21

It prints nothing; `mmap_read.py` shows the records, and with --watch each update. The file is an
array of ``struct stu``, 36 bytes each, which a C program can map too.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from _common import Stu, plain_errors, stu_from_csv

from ipckit import MappedFile


def records_of(path: str) -> list[Stu]:
    """Read the records of a CSV file of ``name,age``; empty lines are ignored."""
    records: list[Stu] = []
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            records.append(stu_from_csv(line))
        except ValueError as exc:
            message = f"{path}, line {number}: {exc}"
            raise ValueError(message) from None
    if not records:
        message = f"{path} has no records"
        raise ValueError(message)
    return records


def make(path: str, records: list[Stu]) -> None:
    """Write records to a new file, which is removed if this fails."""
    with MappedFile.create(path, len(records) * Stu.size) as file:
        for index, record in enumerate(records):
            file.write(record, index * Stu.size)
        file.disown()


def update(path: str, wanted: Stu) -> None:
    """Change the age in each record of that name, in place."""
    with MappedFile.open(path, mode="r+") as file:
        views = [file.view(Stu, offset=at) for at in range(0, file.size, Stu.size)]
        found = [stu for stu in views if stu.name == wanted.name]
        if not found:
            message = f"{path} has no record with the name {wanted.name!r}"
            raise ValueError(message)
        for stu in found:
            stu.age = wanted.age


def main() -> None:
    """Read the command line; create the file, update it, or both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("csv", nargs="?", help="create the file from these lines, name,age")
    parser.add_argument("file", help="the file of records")
    parser.add_argument("--update", nargs=2, metavar=("NAME", "AGE"), help="change an age in place")
    args = parser.parse_intermixed_args()
    if args.csv is None and args.update is None:
        parser.error("give a CSV file, --update, or both")
    with plain_errors():
        wanted = None if args.update is None else stu_from_csv(os.fsencode(",".join(args.update)))
        if args.csv is not None:
            make(args.file, records_of(args.csv))
        if wanted is not None:
            update(args.file, wanted)


if __name__ == "__main__":
    main()
