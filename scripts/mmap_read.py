r"""Print the struct records of a mapped file, each as ``number<TAB>record``.

    $ python scripts/mmap_read.py people.dat
    0	Stu(name='amy', age=20)
    1	Stu(name='bob', age=31)

With --watch it then prints each record that another process changes, until Ctrl-C or until the file
is removed or replaced. If another process truncates the file, it ends with an error, provided that
it notices in time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _common import Stu, looks, plain_errors, show

from ipckit import MappedFile


def identity(path: str) -> tuple[int, int] | None:
    """Return the device and inode of the file at a path."""
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def watch(file: MappedFile, path: str, *, once: bool) -> None:
    """Print all records, then those that change."""
    this = identity(path)
    before = b""
    for _ in looks():
        if file.stale:
            message = f"{path} was truncated by another process"
            raise ValueError(message)
        now = file.read()
        for at in range(0, len(now) if now != before else 0, Stu.size):
            record = now[at : at + Stu.size]
            if record != before[at : at + Stu.size]:
                show(at // Stu.size, Stu.from_bytes(record))
        before = now
        if once or this is None or identity(path) != this:
            return


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", help="a file from mmap_write.py")
    parser.add_argument("--watch", action="store_true", help="also print records that change")
    args = parser.parse_args()
    with plain_errors(), MappedFile.open(args.file) as file:
        if file.size % Stu.size:
            message = f"{args.file} has {file.size:,} bytes, not a whole number of records"
            raise ValueError(message)
        watch(file, args.file, once=not args.watch)


if __name__ == "__main__":
    main()
