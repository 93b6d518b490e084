r"""Send messages to a POSIX queue.

    $ python scripts/mq_send.py --name /notes --create --priority 5 "hello"
    $ printf 'amy,20\nbob,31\n' | python scripts/mq_send.py --name /people --create --struct

Without text it sends each line of standard input, or of --file. It prints nothing;
`mq_recv.py` prints the messages.
"""

from __future__ import annotations

import argparse

from _common import Stu, add_input_options, inputs, plain_errors, stu_from_csv

from ipckit import PosixMessageQueue


def main() -> None:
    """Read the command line and send."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", required=True, help="the queue's name, such as /notes")
    add_input_options(parser)
    parser.add_argument(
        "--priority", type=int, default=0, help="0 to 32767; the highest is received first"
    )
    args = parser.parse_args()
    if args.text and args.file is not None:
        parser.error("text and --file exclude each other")
    if not 0 <= args.priority < 2**15:
        parser.error("--priority must be 0 to 32767")
    with plain_errors():
        find = PosixMessageQueue.open_or_create if args.create else PosixMessageQueue.open
        if args.struct:
            # The queue must stay for the receivers, even if this script created it.
            with find(args.name, Stu).disown() as records:
                for line in inputs(args):
                    records.send(stu_from_csv(line), args.priority, timeout=args.timeout)
        else:
            with find(args.name).disown() as queue:
                for line in inputs(args):
                    queue.send(line, args.priority, timeout=args.timeout)


if __name__ == "__main__":
    main()
