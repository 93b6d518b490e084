r"""Print the struct in a System V segment.

    $ python scripts/shm_read.py --key 1234
    Stu(name='amy', age=20)
    $ python scripts/shm_read.py --key 1234 --watch
    Stu(name='amy', age=20)
    Stu(name='amy', age=21)

With --watch it prints the struct again after each change, until Ctrl-C or until the segment is
removed. It may see one field changed and the next field not yet. For structs that readers must see
whole, use `SysVSharedMemory.shared`.
"""

from __future__ import annotations

import argparse

from _common import Stu, add_key_options, key_of, looks, plain_errors, say

from ipckit import Removed, SysVSharedMemory


def show(segment: SysVSharedMemory, *, watch: bool) -> None:
    """Print the struct, once or after each change."""
    stu = segment.view(Stu)
    shown: Stu | None = None
    for _ in looks():
        now = Stu.from_bytes(bytes(stu))
        if now != shown:
            say(now)
            shown = now
        if not watch:
            return
        try:
            if segment.stat().destroyed:
                return
        except Removed:
            return


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_key_options(parser)
    parser.add_argument("--watch", action="store_true", help="print it again when it changes")
    parser.add_argument("--remove", action="store_true", help="remove the segment at the end")
    args = parser.parse_args()
    with plain_errors():
        segment = SysVSharedMemory.open(key_of(args, parser), readonly=True)
        if args.remove:
            segment.adopt()
        with segment:
            show(segment, watch=args.watch)


if __name__ == "__main__":
    main()
