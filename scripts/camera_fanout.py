r"""A camera publishes 1080p frames to three subscribers; one of them is killed again and again.

    $ python scripts/camera_fanout.py --frames 120 --kills 3
    analyser 4712 was killed with -9
    analyser 4715 was killed with -9
    analyser 4716 was killed with -9
    recorder: 120 frames, 0 lost
    viewer: 25 frames, 95 lost; the last one is frame 119
    analyser: 3 restarts; 0 torn frames
    120 messages: 118 messages/s, 734.0 MB/s

All read the frames in place, and check that none is a mixture of two. The camera waits for the
recorder, and for the analyser while it lives. The viewer is slow and wants the newest frame, so it
loses others. The exit status is 1 if a frame was torn, or if the recorder lost one.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from _children import end_children
from _common import plain_errors, say
from _fanout import FRAME, Crew, Report, paint
from _frames import Rate
from _net import positive

from ipckit import Channel, Topic


def film(topic: Topic[Any], count: int, kills: int, crew: Crew) -> Rate:
    """Publish the frames, and kill the analyser in between."""
    rate = Rate()
    for number in range(count):
        if number and crew.killed < kills and number * (kills + 1) >= count * (crew.killed + 1):
            crew.kill_analyser()
        with topic.loan() as slot:
            paint(slot.array, number)
            slot.send()
        rate.add(FRAME.itemsize)
    return rate


def summarize(count: int, crew: Crew) -> bool:
    """Print what the subscribers have seen. Return whether all is well."""
    seen, torn = crew.reports()
    recorder, viewer = seen["recorder"], seen["viewer"]
    say(f"recorder: {recorder.received} frames, {recorder.lost} lost")
    last = f"the last one is frame {viewer.last}"
    say(f"viewer: {viewer.received} frames, {viewer.lost} lost; {last}")
    say(f"analyser: {crew.killed} restarts; {torn} torn frames")
    counted = (recorder.received, viewer.received + viewer.lost, viewer.last + 1)
    return not torn and not recorder.lost and counted == (count, count, count)


def main() -> None:
    """Read the command line, start the subscribers and publish."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=positive, default=120, help="number of frames")
    parser.add_argument("--kills", type=int, default=3, help="how often to kill the analyser")
    args = parser.parse_args()
    with (
        plain_errors(),
        Channel.anonymous(Report, peer_gone="wait") as reports,
        Topic.anonymous(FRAME, capacity=4, history=1) as topic,
    ):
        try:
            crew = Crew(topic, reports)
            rate = film(topic, args.frames, args.kills, crew)
            topic.close()  # ends the subscribers when they have read everything
            well = summarize(args.frames, crew)
        finally:
            end_children()
        rate.show()
    sys.exit(not well)


if __name__ == "__main__":
    main()
