r"""A camera, two workers and a collector share 1080p frames in place; one worker is killed.

    $ python scripts/camera_pipeline.py --frames 60
    worker 4712 was killed with -9 after 20 frames
    59 of 60 frames: 0 torn, 0 twice, lost: [19]
    59 messages: 356 messages/s, 2,215.9 MB/s

The camera paints each frame in the first channel's memory. A worker reads it there and writes its
negative into the second channel's memory, where the collector checks it. When a worker dies, at
most the one frame that it processes is lost. No process waits for it, or sees its unfinished frame.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections import Counter

import numpy as np
from _children import end_children, in_child, wait_child
from _common import looks, plain_errors, say
from _frames import Frame, Rate, film, is_whole, views

from ipckit import Channel


def work(raw: Channel[Frame], done: Channel[Frame]) -> None:
    """Make negatives until the camera has exited."""
    done.peers()  # registers this process as a peer now, before its first frame
    for view in views(raw):
        with done.loan() as slot:
            slot.array[0]["number"] = view.array[0]["number"]
            np.subtract(255, view.array[0]["pixels"], out=slot.array[0]["pixels"])
            slot.send()


def collect(done: Channel[Frame], count: int, workers: list[int], rate: Rate) -> bool:
    """Check each frame, and kill a worker in between. Return whether all was well."""
    seen = Counter[int]()
    torn = 0
    for view in views(done):
        number = int(view.array[0]["number"])
        seen[number] += 1
        torn += not is_whole(view.array[0], 255 - number % 256)
        rate.add(Frame.size)
        if len(workers) > 1 and rate.messages >= count // 3:
            os.kill(workers[0], signal.SIGKILL)
            wait_child(workers[0])
            say(f"worker {workers.pop(0)} was killed with -9 after {rate.messages} frames")
    twice, lost = seen.total() - len(seen), sorted(set(range(count)) - set(seen))
    say(f"{len(seen)} of {count} frames: {torn} torn, {twice} twice, lost: {lost}")
    return not torn and not twice and len(lost) <= 1


def main() -> None:
    """Read the command line, start the others and collect."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=int, default=60, help="number of frames")
    count: int = parser.parse_args().frames
    rate = Rate()
    with plain_errors():
        raw, done = (Channel.anonymous(Frame, capacity=3) for _ in range(2))
        with raw, done:
            try:
                workers = [in_child(lambda: work(raw, done)) for _ in range(2)]
                next(None for _ in looks() if len(done.peers()) > len(workers))
                in_child(lambda: film(raw, count, Rate(), None))
                well = collect(done, count, workers, rate)
            finally:
                end_children()
        rate.show()
    sys.exit(not well)


if __name__ == "__main__":
    main()
