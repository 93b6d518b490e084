r"""Publish lines, structs or frames to a topic; every subscriber gets each of them.

    $ seq 100000 | python scripts/topic_publish.py --name lines --create --subscribers 2 --rate
    100000 messages: 117,282 messages/s, 0.6 MB/s
    $ python scripts/topic_publish.py --name people --create --history 2 --struct amy,20 bob,31
    $ python scripts/topic_publish.py --name video --create --frames 300 --subscribers 1 --rate

It prints only the rate; `topic_subscribe.py` prints the messages. A message that is published
before a subscriber joins is not for that subscriber, except the last ones (--history). So
--subscribers waits first until that many have joined, or until --timeout ends.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

from _common import plain_errors, wait_until
from _frames import Rate, film
from _streams import add_send_options, capacity_of, payload_of, send_lines

from ipckit import Topic


def main() -> None:
    """Read the command line and publish."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_send_options(parser, "topic")
    parser.add_argument(
        "--history", type=int, default=0, help="with --create: old messages for a new subscriber"
    )
    parser.add_argument(
        "--subscribers", type=int, default=0, metavar="N", help="wait until N have joined"
    )
    args = parser.parse_args()
    rate = Rate()
    with plain_errors():
        topic: Topic[Any]
        if args.create:
            topic = Topic.open_or_create(
                args.name,
                payload_of(args),
                capacity=capacity_of(args),
                history=args.history,
                owner_uid=args.owner_uid,
            ).disown()
        else:
            topic = Topic.open(args.name, payload_of(args), owner_uid=args.owner_uid)
        with topic:
            seconds = math.inf if args.timeout is None else args.timeout
            wait_until(lambda: topic.stats().subscribers >= args.subscribers, seconds)
            if args.frames is not None:
                film(topic, args.frames, rate, args.timeout)
            else:
                send_lines(args, topic.publish, rate)
        if args.rate:
            rate.show()


if __name__ == "__main__":
    main()
