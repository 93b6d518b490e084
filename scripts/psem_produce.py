r"""Put lines into a bounded buffer in shared memory, guarded by three POSIX semaphores.

    $ seq 100 | python scripts/psem_produce.py --name /lines --create --capacity 4

It prints nothing; `psem_consume.py` prints the lines. Any number of both may run. The semaphores
are the textbook's three: NAME.empty, NAME.full and NAME.mutex.

POSIX semaphores have no undo. If a process is killed with -9 inside the buffer, the mutex stays
taken, and all others wait for ever, or until their --timeout. If it is killed between two
semaphores, a place is never used again, or a line is never taken. The other processes cannot
distinguish this from a slow process. When all processes have exited, remove the buffer and start
again:

    $ python scripts/psem_consume.py --name /lines --create --count 0 --remove

If processes may be killed, use `sem_produce.py` and `sem_consume.py` instead.
"""

from __future__ import annotations

import argparse

from _common import plain_errors
from _posix_ring import add_name_option, posix_ring
from _ring import add_ring_options, parsed, produce


def main() -> None:
    """Read the command line and produce."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_name_option(parser)
    add_ring_options(parser)
    parser.add_argument("--file", help="read lines from this file, not standard input")
    args = parsed(parser)
    with plain_errors(), posix_ring(args) as (ring, counters):
        produce(ring, counters, args)


if __name__ == "__main__":
    main()
