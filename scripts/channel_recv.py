r"""Print the messages from a channel.

    $ python scripts/channel_recv.py --name people --struct --remove
    Stu(name='amy', age=20)
    Stu(name='bob', age=31)
    $ python scripts/channel_recv.py --name video --frames --rate --remove
    frame 0: whole
    ...
    300 messages: 412 messages/s, 2,563.1 MB/s

It ends when all senders have left and the channel is empty; with --wait it then waits for new
senders. It checks frames in the channel's memory, without a copy.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import Any

from _common import plain_errors
from _frames import Rate
from _streams import add_receive_options, payload_of, print_next

from ipckit import Channel, PeerGone


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_receive_options(parser, "channel")
    args = parser.parse_args()
    rate = Rate()
    with plain_errors():
        channel: Channel[Any] = Channel.open(
            args.name,
            payload_of(args),
            peer_gone="wait" if args.wait else "raise",
            owner_uid=args.owner_uid,
        )
        if args.remove:
            channel.adopt()
        with channel, suppress(PeerGone):  # all senders have left, and the channel is empty
            while rate.messages != args.count:
                rate.add(print_next(channel, args))
        if args.rate:
            rate.show()


if __name__ == "__main__":
    main()
