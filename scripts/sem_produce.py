r"""Put lines into a bounded buffer in shared memory, guarded by a System V set of three.

    $ seq 100 | python scripts/sem_produce.py --key 1234 --create --capacity 4

It prints nothing; `sem_consume.py` prints the lines. Any number of both may run. Kill any of them
with -9 at any moment: the others continue, and only the line that the killed process held is lost.
The shared memory and the semaphores have the same key.
"""

from __future__ import annotations

import argparse

from _common import add_key_options, key_of, plain_errors
from _ring import add_ring_options, parsed, produce, ring_of

from ipckit import SysVSharedMemory
from ipckit.sem import BoundedBuffer


def main() -> None:
    """Read the command line and produce."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_key_options(parser)
    add_ring_options(parser)
    parser.add_argument("--file", help="read lines from this file, not standard input")
    args = parsed(parser)
    with plain_errors():
        key = key_of(args, parser)
        with ring_of(
            lambda size: SysVSharedMemory.create(key, size),
            lambda: SysVSharedMemory.open(key),
            args,
        ) as ring:
            if args.create:
                buffer = BoundedBuffer.open_or_create(key, ring.capacity)
            else:
                buffer = BoundedBuffer.open(key)
            if args.remove:
                buffer.semaphores.adopt()
            else:
                buffer.semaphores.disown()
            with buffer.lifetime():
                produce(ring, buffer, args)


if __name__ == "__main__":
    main()
