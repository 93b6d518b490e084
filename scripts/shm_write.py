r"""Write a struct into a System V segment, where it is: ``typedef struct stu { … } STU;``.

    $ python scripts/shm_write.py --key 1234 --name amy --age 20 --create
    $ python scripts/shm_write.py --key 1234 --age 21

It prints nothing; `shm_read.py` shows what is there, and so does a C program that attaches the
segment. A field that is not given stays as it is.
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
    parser.add_argument("--create", action="store_true", help="make the segment if there is none")
    args = parser.parse_args()
    if args.name is None and args.age is None:
        parser.error("give --name, --age or both")
    with plain_errors():
        key = key_of(args, parser)
        # What does not fit a field is an error before anything is made or written.
        wanted = Stu(args.name or "", args.age or 0)
        if args.create:
            segment = SysVSharedMemory.open_or_create(key, Stu.size)
        else:
            segment = SysVSharedMemory.open(key)
        # The segment stays for those who read it, whoever made it.
        with segment.disown():
            stu = segment.view(Stu)
            if args.name is not None:
                stu.name = wanted.name
            if args.age is not None:
                stu.age = wanted.age


if __name__ == "__main__":
    main()
