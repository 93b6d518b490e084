r"""Write a struct into a System V segment, in place: ``typedef struct stu { … } STU;``.

    $ python scripts/shm_write.py --key 1234 --name amy --age 20 --create
    $ python scripts/shm_write.py --key 1234 --age 21

It prints nothing; `shm_read.py` shows the struct, and so can a C program that attaches the segment.
A field that is not given does not change.
"""

from __future__ import annotations

import argparse

from _common import Stu, add_key_options, key_of, plain_errors

from ipckit import SysVSharedMemory


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_key_options(parser)
    parser.add_argument("--name", help="up to 32 bytes")
    parser.add_argument("--age", type=int, help="a C int")
    parser.add_argument(
        "--create", action="store_true", help="create the segment if it does not exist"
    )
    args = parser.parse_args()
    if args.name is None and args.age is None:
        parser.error("give --name, --age or both")
    with plain_errors():
        key = key_of(args, parser)
        # A value that does not fit raises before anything is created or written.
        wanted = Stu(args.name or "", args.age or 0)
        if args.create:
            segment = SysVSharedMemory.open_or_create(key, Stu.size)
        else:
            segment = SysVSharedMemory.open(key)
        # The segment must stay for the readers, even if this script created it.
        with segment.disown():
            stu = segment.view(Stu)
            if args.name is not None:
                stu.name = wanted.name
            if args.age is not None:
                stu.age = wanted.age


if __name__ == "__main__":
    main()
