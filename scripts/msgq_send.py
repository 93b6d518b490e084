r"""Send messages to a System V queue.

    $ python scripts/msgq_send.py --key 1234 --create --type 2 "hello"
    $ printf 'amy,20\nbob,31\n' | python scripts/msgq_send.py --key 1234 --struct
    $ python scripts/msgq_send.py --path /etc/hostname --proj A --create --file notes.txt

Without text it sends each line of standard input, or of --file. It prints nothing;
`msgq_recv.py` prints the messages.
"""

from __future__ import annotations

import argparse

from _common import (
    Stu,
    add_input_options,
    add_key_options,
    inputs,
    key_of,
    plain_errors,
    stu_from_csv,
)

from ipckit import SysVMessageQueue


def main() -> None:
    """Read the command line and send."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_key_options(parser)
    add_input_options(parser)
    parser.add_argument("--type", type=int, default=1, help="the message type, 1 or more")
    args = parser.parse_args()
    if args.text and args.file is not None:
        parser.error("text and --file exclude each other")
    if not 1 <= args.type < 2**63:
        parser.error("--type must be 1 or more")
    with plain_errors():
        key = key_of(args, parser)
        find = SysVMessageQueue.open_or_create if args.create else SysVMessageQueue.open
        if args.struct:
            # The queue must stay for the receivers, even if this script created it.
            with find(key, Stu).disown() as records:
                for line in inputs(args):
                    records.send(stu_from_csv(line), args.type, timeout=args.timeout)
        else:
            with find(key).disown() as queue:
                for line in inputs(args):
                    queue.send(line, args.type, timeout=args.timeout)


if __name__ == "__main__":
    main()
