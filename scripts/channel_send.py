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

from _common import plain_errors
from _frames import Rate, film
from _streams import add_send_options, capacity_of, payload_of, send_lines

from ipckit import Channel


def main() -> None:
    """Read the command line and send."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_send_options(parser, "channel")
    args = parser.parse_args()
    rate = Rate()
    with plain_errors():
        channel: Channel[Any]
        if args.create:
            channel = Channel.open_or_create(
                args.name, payload_of(args), capacity=capacity_of(args), owner_uid=args.owner_uid
            ).disown()
        else:
            channel = Channel.open(args.name, payload_of(args), owner_uid=args.owner_uid)
        with channel:
            if args.frames is not None:
                film(channel, args.frames, rate, args.timeout)
            else:
                send_lines(args, channel.send, rate)
        if args.rate:
            rate.show()


if __name__ == "__main__":
    main()
