r"""Print the messages of a topic.

    $ python scripts/topic_subscribe.py --name people --struct --remove
    Stu(name='amy', age=20)
    Stu(name='bob', age=31)
    $ python scripts/topic_subscribe.py --name video --frames --newest --depth 1 --rate
    frame 0: whole
    frame 3: whole
    ...
    130 messages: 1,513 messages/s, 9,410.4 MB/s
    lost: 170

By default the publisher waits for this script; with --newest this script loses its oldest unread
messages instead, and says how many. It ends when all publishers have left and everything was read;
with --wait it then waits for new publishers. It checks frames in the topic's memory, without a
copy.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import Any

from _common import plain_errors
from _frames import Rate
from _streams import add_receive_options, payload_of, print_next

from ipckit import PeerGone, Topic


def main() -> None:
    """Read the command line, subscribe and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_receive_options(parser, "topic")
    parser.add_argument("--newest", action="store_true", help="lose the oldest instead of waiting")
    parser.add_argument("--depth", type=int, help="how many messages may be unread")
    parser.add_argument("--history", type=int, help="how many old messages to get first")
    args = parser.parse_args()
    rate = Rate()
    with plain_errors():
        topic: Topic[Any] = Topic.open(
            args.name,
            payload_of(args),
            peer_gone="wait" if args.wait else "raise",
            owner_uid=args.owner_uid,
        )
        if args.remove:
            topic.adopt()
        policy = "drop_oldest" if args.newest else "wait"
        with (
            topic,
            topic.subscribe(when_full=policy, depth=args.depth, history=args.history) as messages,
        ):
            with suppress(PeerGone):  # all publishers have left, and everything was read
                while rate.messages != args.count:
                    rate.add(print_next(messages, args))
            lost = messages.lost
        if args.rate:
            rate.show()
        if args.rate or lost:
            print(f"lost: {lost}", file=sys.stderr)


if __name__ == "__main__":
    main()
