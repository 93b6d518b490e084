"""The epoll echo server beside asyncio's streams: 100 connections, one request at a time each."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness import Row, compare_slow

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

CONNECTIONS = 100
REQUESTS = 4000
REQUEST = bytes(64)

_SERVER = Path(__file__).parent.parent / "scripts" / "echo_server.py"
_ASYNCIO = """
import asyncio, sys
async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_unix_server(echo, sys.argv[1])
    print("listening", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextmanager
def _server(*argv: str) -> Generator[None]:
    process = subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE)
    assert process.stdout is not None  # noqa: S101 - requested above
    try:
        process.stdout.readline()  # the line that says that it listens
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _client(path: str, stack: ExitStack) -> Callable[[], None]:
    """Return a function that sends REQUESTS requests over all connections."""
    poller = stack.enter_context(select.epoll())
    sockets: dict[int, socket.socket] = {}
    for _ in range(CONNECTIONS):
        sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.connect(path)
        sockets[sock.fileno()] = sock
        poller.register(sock, select.EPOLLIN)

    def run() -> None:
        asked = answered = 0
        for sock in sockets.values():
            sock.send(REQUEST)
            asked += 1
        while answered < REQUESTS:
            for fd, _ in poller.poll():
                sock = sockets[fd]
                sock.recv(len(REQUEST), socket.MSG_WAITALL)
                answered += 1
                if asked < REQUESTS:
                    sock.send(REQUEST)
                    asked += 1

    return run


def rows() -> Iterator[Row]:
    """Yield the times for equal numbers of requests; 0.8 of the peer's rate is 1.25 of its time."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        ours, peer = f"{directory}/epoll", f"{directory}/asyncio"
        options = ("--transport", "unix", "--model", "epoll", "--path", ours)
        stack.enter_context(_server(str(_SERVER), *options))
        stack.enter_context(_server("-c", _ASYNCIO, peer))
        theirs = _client(peer, stack)
        what = f"epoll echo, {CONNECTIONS} clients, {REQUESTS} requests"
        yield compare_slow(what, "asyncio streams", theirs, _client(ours, stack), 1.25)
