r"""Receive messages from a System V queue, and print each as ``type<TAB>payload``.

    $ python scripts/msgq_recv.py --key 1234 --count 1
    2	hello
    $ python scripts/msgq_recv.py --key 1234 --struct --count 2
    1	Stu(name='amy', age=20)
    1	Stu(name='bob', age=31)

It receives messages until --count or Ctrl-C, or until the queue is removed.
"""

from __future__ import annotations

import argparse

from _common import Stu, add_key_options, key_of, plain_errors, seconds, show

from ipckit import Removed, SysVMessageQueue


def main() -> None:
    """Read the command line and receive."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_key_options(parser)
    parser.add_argument(
        "--type",
        type=int,
        default=0,
        help="n: only type n; -n: the lowest type up to n; 0 (the default): any type",
    )
    parser.add_argument(
        "--except", action="store_true", dest="exclude", help="any type except --type"
    )
    parser.add_argument("--count", type=int, help="stop after this many messages")
    parser.add_argument("--timeout", type=seconds, help="seconds to wait for each message")
    parser.add_argument("--struct", action="store_true", help="messages are struct stu")
    parser.add_argument("--remove", action="store_true", help="remove the queue at the end")
    args = parser.parse_args()
    if not -(2**63) <= args.type < 2**63:
        parser.error("--type must be a number of 64 bits")
    if args.exclude and args.type < 1:
        parser.error("--except needs --type with 1 or more")
    if args.count is not None and args.count < 0:
        parser.error("--count must be 0 or more")
    with plain_errors():
        key = key_of(args, parser)
        queue: SysVMessageQueue[bytes] | SysVMessageQueue[Stu]
        queue = SysVMessageQueue.open(key, Stu) if args.struct else SysVMessageQueue.open(key)
        if args.remove:
            queue.adopt()
        left = args.count
        with queue:
            while left is None or left > 0:
                try:
                    message = queue.receive(args.type, exclude=args.exclude, timeout=args.timeout)
                except Removed:
                    break
                show(message.mtype, message.value)
                left = None if left is None else left - 1


if __name__ == "__main__":
    main()
