r"""Put lines into a bounded buffer in shared memory, guarded by three POSIX semaphores.

    $ seq 100 | python scripts/psem_produce.py --name /lines --create --capacity 4

It prints nothing; `psem_consume.py` prints what it takes. Any number of both may run. The
semaphores are NAME.empty, NAME.full and NAME.mutex, the textbook's three.

POSIX semaphores have no undo. Who is killed with -9 inside the buffer leaves the mutex taken, so
that all others wait for ever, or until their --timeout; who is killed between two semaphores
leaves a place that nobody uses again, or a line that nobody comes for. Nobody can tell that from
a process that takes its time. When all are gone, clean up and begin anew:

    $ python scripts/psem_consume.py --name /lines --create --count 0 --remove

Where processes may be killed, use `sem_produce.py` and `sem_consume.py`.
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
    parser.add_argument("--file", help="take this file's lines, not standard input's")
    args = parsed(parser)
    with plain_errors(), posix_ring(args) as (ring, counters):
        produce(ring, counters, args)


if __name__ == "__main__":
    main()
