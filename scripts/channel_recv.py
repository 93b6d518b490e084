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

from _common import Stu, plain_errors, say, seconds
from _frames import Frame, Rate, is_whole

from ipckit import Channel, PeerGone


def take(args: argparse.Namespace, channel: Channel[Any]) -> int:
    """Receive one message and print it. Return its size."""
    with channel.receive_view(timeout=args.timeout) as view:
        if not args.frames:
            value = view.value
            say(value.decode(errors="surrogateescape") if isinstance(value, bytes) else value)
            del value
        else:
            frame = view.array[0]
            number = int(frame["number"])
            say(f"frame {number}: {'whole' if is_whole(frame, number % 256) else 'torn'}")
            del frame
        return view.nbytes


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", required=True, help="the channel's name")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--struct", action="store_true", help="messages are structs")
    kind.add_argument("--frames", action="store_true", help="messages are 1080p frames")
    parser.add_argument("--count", type=int, default=-1, help="end after this many messages")
    parser.add_argument("--timeout", type=seconds, help="seconds to wait for each")
    parser.add_argument("--wait", action="store_true", help="wait for new senders")
    parser.add_argument("--remove", action="store_true", help="remove the channel at the end")
    parser.add_argument("--owner-uid", type=int, help="also accept a channel of this user")
    parser.add_argument("--rate", action="store_true", help="print the rate at the end")
    args = parser.parse_args()
    rate = Rate()
    with plain_errors():
        payload: Any = Frame if args.frames else Stu if args.struct else bytes
        wait = "wait" if args.wait else "raise"
        channel = Channel.open(args.name, payload, peer_gone=wait, owner_uid=args.owner_uid)
        if args.remove:
            channel.adopt()
        with channel, suppress(PeerGone):  # all senders have left, and the channel is empty
            while rate.messages != args.count:
                rate.add(take(args, channel))
        if args.rate:
            rate.show()


if __name__ == "__main__":
    main()
