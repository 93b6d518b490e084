"""Compare a bridge of channels with nats-py: messages per second from one host to another.

The hosts are two network namespaces with a link. The NATS server runs on the second host, and keeps
its stream in memory. Each rate counts the messages that a program on the second host has received,
and that are acknowledged. "By hand" means a program that uses nats-py without channels, with the
same number of unacknowledged messages.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import numpy as np
from demo_bridge_hosts import AT, Host, enter_namespaces

from ipckit import Bytes, Channel, Struct

NATS = f"nats://{AT[1]}:4222"
WINDOW = 64
ROUNDS = int(os.environ.get("ROUNDS", "3"))


class Record(Struct):
    """A message of 36 bytes."""

    data: Bytes[36]


class Kilobyte(Struct):
    """A message of 1 KiB."""

    data: Bytes[1024]


TYPES: dict[str, type[Struct]] = {"36": Record, "1024": Kilobyte}


def report(count: int, start: float) -> None:
    """Print the number of messages per second."""
    print(count / (time.perf_counter() - start), flush=True)


# -- channels over JetStream -----------------------------------------------------------------------


def produce(size: str, count: str) -> None:
    """Send messages into the channel, many at a time."""
    kind, left = TYPES[size], int(count)
    with Channel.open_or_create("bench", kind, capacity=65536, peer_gone="wait") as channel:
        records = np.zeros(1024, kind.dtype)
        while left > 0:
            channel.send_many(records[: min(left, 1024)])
            left -= 1024
        signal.pause()  # do not leave the block, because its end may remove the channel


def consume(size: str, count: str) -> None:
    """Receive messages from the channel, and print the rate."""
    kind = TYPES[size]
    with Channel.open_or_create("bench", kind, capacity=65536, peer_gone="wait") as channel:
        print("ready", flush=True)
        got = first = len(channel.receive_many())
        start = time.perf_counter()
        while got < int(count):
            got += len(channel.receive_many())
        report(got - first, start)


def bridge(way: str, packet: str, stream: str) -> None:
    """Run one side of the bridge."""
    from ipckit.bridge import BridgeOptions, forward, receive  # noqa: PLC0415

    options = BridgeOptions(storage="memory", window=WINDOW, packet_messages=int(packet))
    while True:
        try:
            both = forward if way == "send" else receive
            ends = ("channel:bench", f"{NATS}/{stream}")
            both(*(ends if way == "send" else ends[::-1]), options).wait()
        except FileNotFoundError:
            time.sleep(0.05)


# -- the same by hand ------------------------------------------------------------------------------


def nats_produce(size: str, count: str, stream: str) -> None:
    """Publish messages with nats-py, at most `WINDOW` of them unacknowledged."""

    async def run() -> None:
        import nats  # noqa: PLC0415

        client = await nats.connect(NATS)
        js = client.jetstream(publish_async_max_pending=WINDOW)
        sender, data = os.urandom(16).hex(), bytes(int(size))
        for number in range(int(count)):
            headers = {"Nats-Msg-Id": f"{sender}-{number}"}
            await js.publish_async(f"ipckit.{stream}", data, headers=headers)
        await js.publish_async_completed()
        await client.close()

    asyncio.run(run())


def nats_consume(size: str, count: str, stream: str) -> None:
    """Fetch messages with nats-py, acknowledge each, and print the rate."""
    del size

    async def run() -> None:
        import nats  # noqa: PLC0415
        from nats.errors import TimeoutError as NoMessage  # noqa: PLC0415

        client = await nats.connect(NATS)
        js = client.jetstream()
        await js.add_stream(
            name=stream, subjects=[f"ipckit.{stream}"], retention="workqueue", storage="memory"
        )
        pull = await js.pull_subscribe(f"ipckit.{stream}", durable=stream)
        print("ready", flush=True)
        got, start = 0, 0.0
        while got < int(count):
            try:
                for message in await pull.fetch(WINDOW, timeout=1):
                    await message.ack()
                    got += 1
                    start = start or time.perf_counter()
            except (NoMessage, TimeoutError):
                continue
        report(got - 1, start)
        await client.close()

    asyncio.run(run())


ROLES = {each.__name__: each for each in (produce, consume, bridge, nats_produce, nats_consume)}


def measured(here: Host, there: Host, row: tuple[str, int, int, str]) -> float:
    """Return the rate of one round.

    Args:
        here: the host of the producer.
        there: the host of the consumer and the server.
        row: the size of a message, the number of messages, the most messages in a packet (0 to
            measure nats-py without a bridge), and the name of the stream.
    """
    size, count, packet, stream = row
    many, own = str(count), str(Path(__file__).resolve())
    running: list[subprocess.Popen[bytes]] = []

    def start(host: Host, *args: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        running.append(host.start(own, *args, stdout=stdout))
        return running[-1]

    try:
        by = () if packet else (stream,)
        prefix = "" if packet else "nats_"
        consumer = start(there, f"{prefix}consume", size, many, *by, stdout=subprocess.PIPE)
        assert consumer.stdout is not None  # noqa: S101
        consumer.stdout.readline()
        if packet:
            start(there, "bridge", "receive", str(packet), stream)
        start(here, f"{prefix}produce", size, many, *by)
        if packet:
            start(here, "bridge", "send", str(packet), stream)
        return float(consumer.stdout.readline())
    finally:
        for each in running:
            each.kill()
            each.wait()


def main() -> int:
    """Measure everything, and print a table."""
    rows = [
        ("36 B, packets of 1024", "36", 2_000_000, 1024),
        ("1 KiB, packets of 1024", "1024", 300_000, 1024),
        ("1 KiB, single messages", "1024", 20_000, 1),
        ("1 KiB, nats-py by hand", "1024", 20_000, 0),
    ]
    found: dict[str, list[float]] = {row[0]: [] for row in rows}
    with tempfile.TemporaryDirectory() as directory, Host.pair() as (here, there):
        there.start("nats-server", "-js", "-sd", directory, quiet=True)
        time.sleep(0.5)
        for number in range(ROUNDS):
            for place, (name, size, count, packet) in enumerate(rows):
                stream = f"b{number}{place}"
                row = (size, count, packet, stream)
                found[name].append(measured(here, there, row))
                print(f"{name:26} {found[name][-1]:12,.0f}/s", flush=True)
                for host in (here, there):
                    host.run("sh", "-c", "rm -f /dev/shm/ipckit*")
    for name, rates in found.items():
        print(f"{name:26} {sorted(rates)[ROUNDS // 2]:12,.0f}/s  of {sorted(map(round, rates))}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ROLES[sys.argv[1]](*sys.argv[2:])
    else:
        enter_namespaces(__file__)
        sys.exit(main())
