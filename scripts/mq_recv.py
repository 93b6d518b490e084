r"""Receive messages from a POSIX queue, and print each as ``priority<TAB>payload``.

    $ python scripts/mq_recv.py --name /notes --count 1
    5	hello
    $ python scripts/mq_recv.py --name /people --struct --count 2 --remove
    0	Stu(name='amy', age=20)
    0	Stu(name='bob', age=31)

It receives messages, the highest priority first, until --count or Ctrl-C.
"""

from __future__ import annotations

import argparse

from _common import Stu, plain_errors, seconds, show

from ipckit import PosixMessageQueue


def main() -> None:
    """Read the command line and receive."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", required=True, help="the queue's name, such as /notes")
    parser.add_argument("--count", type=int, help="stop after this many messages")
    parser.add_argument("--timeout", type=seconds, help="seconds to wait for each message")
    parser.add_argument("--struct", action="store_true", help="messages are struct stu")
    parser.add_argument("--remove", action="store_true", help="unlink the queue at the end")
    args = parser.parse_args()
    if args.count is not None and args.count < 0:
        parser.error("--count must be 0 or more")
    with plain_errors():
        queue: PosixMessageQueue[bytes] | PosixMessageQueue[Stu]
        if args.struct:
            queue = PosixMessageQueue.open(args.name, Stu, readonly=True)
        else:
            queue = PosixMessageQueue.open(args.name, readonly=True)
        if args.remove:
            queue.adopt()
        left = args.count
        with queue:
            while left is None or left > 0:
                message = queue.receive(timeout=args.timeout)
                show(message.priority, message.value)
                left = None if left is None else left - 1


if __name__ == "__main__":
    main()
