r"""Take lines from a bounded buffer in shared memory, guarded by a System V set of three.

    $ python scripts/sem_consume.py --key 1234 --count 3
    1
    2
    3
    $ python scripts/sem_consume.py --key 1234 --count 0 --remove      # takes and prints nothing

It takes lines until --count or Ctrl-C, or until the buffer is removed. Any number of producers and
consumers may run. Kill any of them with -9 at any moment: the others continue, and only the line
that the killed process held is lost.
"""

from __future__ import annotations

import argparse

from _common import add_key_options, key_of, plain_errors
from _ring import add_ring_options, consume, parsed, ring_of

from ipckit import SysVSharedMemory
from ipckit.sem import BoundedBuffer


def main() -> None:
    """Read the command line and consume."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_key_options(parser)
    add_ring_options(parser)
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
                consume(ring, buffer, args)


if __name__ == "__main__":
    main()
