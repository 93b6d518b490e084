r"""Send lines, structs or frames into a channel.

    $ seq 100000 | python scripts/channel_send.py --name lines --create --rate
    100000 messages: 812,345 messages/s, 3.9 MB/s
    $ python scripts/channel_send.py --name people --create --struct amy,20 bob,31
    $ python scripts/channel_send.py --name video --create --frames 300 --rate

It prints only the rate; `channel_recv.py` prints the messages. Messages stay in the channel until
they are received, even after this script has ended.
"""

from __future__ import annotations

import argparse
from typing import Any

from _common import Stu, add_input_options, inputs, plain_errors, stu_from_csv
from _frames import Frame, Rate, film

from ipckit import Channel


def send_lines(args: argparse.Namespace, channel: Channel[Any], rate: Rate) -> None:
    """Send lines, unchanged or as structs."""
    for line in inputs(args):
        channel.send(stu_from_csv(line) if args.struct else line, timeout=args.timeout)
        rate.add(Stu.size if args.struct else len(line))


def main() -> None:
    """Read the command line and send."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", required=True, help="the channel's name")
    add_input_options(parser)
    parser.add_argument("--frames", type=int, metavar="N", help="send N 1080p frames instead")
    parser.add_argument(
        "--capacity", type=int, default=0, help="with --create: messages that it holds"
    )
    parser.add_argument("--owner-uid", type=int, help="also accept a channel of this user")
    parser.add_argument("--rate", action="store_true", help="print the rate at the end")
    args = parser.parse_args()
    rate = Rate()
    with plain_errors():
        payload: Any = Frame if args.frames is not None else Stu if args.struct else bytes
        if args.create:
            capacity = args.capacity or (4 if payload is Frame else 1024)
            channel = Channel.open_or_create(
                args.name, payload, capacity=capacity, owner_uid=args.owner_uid
            ).disown()
        else:
            channel = Channel.open(args.name, payload, owner_uid=args.owner_uid)
        with channel:
            if args.frames is not None:
                film(channel, args.frames, rate, args.timeout)
            else:
                send_lines(args, channel, rate)
        if args.rate:
            rate.show()


if __name__ == "__main__":
    main()
