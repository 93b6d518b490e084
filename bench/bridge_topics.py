"""Compare a bridge of topics with zenoh's Python library: messages per second between two hosts.

The hosts are two network namespaces, as in bridge.py. "By hand" means a program that uses zenoh
without topics: a publisher that drops no messages (congestion control BLOCK), and a subscriber that
copies each message to bytes.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from demo_bridge_hosts import AT, Host, enter_namespaces

from ipckit import Topic

TOPIC, URL = "topic:bench", f"zenoh://{AT[0]}:7447/bench"
ROUNDS = int(os.environ.get("ROUNDS", "5"))
WARM_UP = 0.3
SIZES = {64: 500_000, 1 << 20: 1_500}
SHORT = 4096


def opened(size: int) -> Topic[bytes]:
    """Open or create the topic of this host, so that it remains when the program ends."""
    capacity = 8192 if size < SHORT else 32
    room = max(2 * size * capacity, 1 << 20)
    topic = Topic.open_or_create("bench", capacity=capacity, size=room, peer_gone="wait")
    return topic.disown()


def make(size: int, count: int) -> None:
    """Create the topic, so that the bridge finds it."""
    del count
    opened(size).close()


def publish(size: int, count: int) -> None:
    """Wait until a bridge has subscribed, and publish messages, short ones in batches."""
    topic, data = opened(size), bytes(size)
    while not topic.stats().subscribers:
        time.sleep(0.01)
    topic.publish(data)
    time.sleep(WARM_UP)
    if size < SHORT:
        for _ in range(count // 250):
            topic.publish_many([data] * 250)
    else:
        for _ in range(count):
            topic.publish(data)
    signal.pause()  # until the bench kills this process


def subscribe(size: int, count: int) -> None:
    """Receive messages, and print the rate."""
    with opened(size).subscribe(history=0) as messages:
        print("ready", flush=True)
        messages.receive()
        got = first = 0
        start = 0.0
        while got < count:
            if size < SHORT:
                got += len(messages.receive_many())
            else:
                messages.receive_view().release()
                got += 1
            first, start = first or got, start or time.perf_counter()
        print((got - first) / (time.perf_counter() - start), flush=True)


def _session(mode: str) -> Any:
    import zenoh  # noqa: PLC0415

    config = zenoh.Config()
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5(f"{mode}/endpoints", f'["tcp/{AT[0]}:7447"]')
    return zenoh.open(config)


def zenoh_publish(size: int, count: int) -> None:
    """Wait for a subscriber, and publish messages with zenoh."""
    import zenoh  # noqa: PLC0415

    control = zenoh.CongestionControl.BLOCK
    session = _session("listen")  # a session closes when no variable refers to it
    publisher = session.declare_publisher("bench", congestion_control=control)
    data = bytes(size)
    while not publisher.matching_status.matching:
        time.sleep(0.01)
    publisher.put(data)
    time.sleep(WARM_UP)
    for _ in range(count):
        publisher.put(data)
    signal.pause()  # until the bench kills this process


def zenoh_subscribe(size: int, count: int) -> None:
    """Receive messages with zenoh, and print the rate."""
    del size
    got, start, end = -1, 0.0, 0.0

    def arrived(sample: Any) -> None:
        nonlocal got, start, end
        sample.payload.to_bytes()
        got += 1
        if got == 1:
            start = time.perf_counter()
        elif got == count:
            end = time.perf_counter()

    session = _session("connect")
    subscriber = session.declare_subscriber("bench", arrived)
    print("ready", flush=True)
    while not end:
        time.sleep(0.01)
    print((got - 1) / (end - start), flush=True)
    subscriber.undeclare()


ROLES = {each.__name__: each for each in (make, publish, subscribe, zenoh_publish, zenoh_subscribe)}


def measured(here: Host, there: Host, size: int, *, by_hand: bool) -> float:
    """Return the rate of one round."""
    own, size_and_count = str(Path(__file__).resolve()), (str(size), str(SIZES[size]))
    prefix = "zenoh_" if by_hand else ""
    running: list[subprocess.Popen[bytes]] = []

    def start(host: Host, role: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        running.append(host.start(own, role, *size_and_count, stdout=stdout))
        return running[-1]

    try:
        if not by_hand:
            for host, ends in ((here, (TOPIC, URL)), (there, (URL, TOPIC))):
                host.run(sys.executable, own, "make", *size_and_count)
                running.append(host.start("ipckit", "bridge", *ends))
        start(here, f"{prefix}publish")
        consumer = start(there, f"{prefix}subscribe", stdout=subprocess.PIPE)
        assert consumer.stdout is not None  # noqa: S101
        consumer.stdout.readline()
        return float(consumer.stdout.readline())
    finally:
        for each in running:
            each.kill()
            each.wait()
        for host in (here, there):
            host.run("sh", "-c", "rm -f /dev/shm/ipckit*")


def main() -> int:
    """Measure both sizes, with zenoh and a bridge by turns, and print the ratios."""
    with Host.pair() as (here, there):
        for size in SIZES:
            rows = [
                (
                    measured(here, there, size, by_hand=True),
                    measured(here, there, size, by_hand=False),
                )
                for _ in range(ROUNDS)
            ]
            zenoh, ours = (statistics.median(column) for column in zip(*rows, strict=True))
            ratio = statistics.median(mine / theirs for theirs, mine in rows)
            print(
                f"topic, {size:>9,} B: zenoh {zenoh:10,.0f}/s  bridge {ours:10,.0f}/s  "
                f"ratio {ratio:.2f} of {[round(b / a, 2) for a, b in rows]}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ROLES[sys.argv[1]](*map(int, sys.argv[2:]))
    else:
        enter_namespaces(__file__)
        sys.exit(main())
