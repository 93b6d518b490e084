"""The echo server's models: ways in which one program serves many clients at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from _children import end_children, in_child, reap_ended, wait_child
from _echo_loop import CHUNK, serve
from _loop import NO_DESCRIPTORS, POLLERS
from _net import BACKLOG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DATAGRAM_WORKERS: Final = 4
_LOOK: Final = 0.5  # seconds


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    # A signal just before the wait does not interrupt it, and Python handles it only after the
    # wait. So each wait is short.
    listener.settimeout(_LOOK)
    while True:
        try:
            yield listener.accept()[0]
        except (ConnectionAbortedError, TimeoutError):
            continue
        except OSError as exc:
            if exc.errno not in NO_DESCRIPTORS:
                raise
            # Until then, new clients wait in the listener's backlog.
            time.sleep(0.05)


def _echo(sock: socket.socket) -> None:
    # A client that leaves without reading everything is not an error of the server.
    with sock, contextlib.suppress(OSError):
        while data := sock.recv(CHUNK):
            sock.sendall(data)


def _echo_datagrams(sock: socket.socket, look: float | None = _LOOK) -> None:
    sock.settimeout(look)  # as in `_accepted`; None in threads, which get no signals
    while True:
        try:
            data, sender = sock.recvfrom(CHUNK)
        except TimeoutError:
            continue
        if sender is None:
            return  # the socket was shut down; an empty datagram has a sender
        with contextlib.suppress(OSError):  # an address that cannot receive, such as port 0
            sock.sendto(data, sender)


def _fork(sock: socket.socket) -> None:
    if sock.type == socket.SOCK_DGRAM:
        try:
            for _ in range(_DATAGRAM_WORKERS):
                in_child(partial(_echo_datagrams, sock))
            while True:
                wait_child()
                in_child(partial(_echo_datagrams, sock))
        finally:
            end_children()

    def reap(*_: object) -> None:
        # Signals do not queue, so several children may have exited since the last one. A nested
        # call of this handler may have reaped some of them.
        with contextlib.suppress(ChildProcessError):
            while reap_ended()[0]:
                pass

    def child(client: socket.socket) -> None:
        sock.close()
        _echo(client)

    signal.signal(signal.SIGCHLD, reap)
    try:
        for client in _accepted(sock):
            try:
                with client:
                    in_child(partial(child, client))
            except OSError as exc:
                print(f"error: a client is refused: {exc}", flush=True)
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        end_children()


def _thread(sock: socket.socket) -> None:
    running: dict[threading.Thread, socket.socket] = {}

    def work(client: socket.socket) -> None:
        try:
            if client is sock:
                _echo_datagrams(client, look=None)  # shutdown ends the wait
            else:
                _echo(client)
        finally:
            running.pop(threading.current_thread(), None)

    def start(client: socket.socket) -> None:
        thread = threading.Thread(target=work, args=[client])
        running[thread] = client
        thread.start()

    try:
        if sock.type == socket.SOCK_DGRAM:
            for _ in range(_DATAGRAM_WORKERS):
                start(sock)
            while True:
                time.sleep(_LOOK)
        for client in _accepted(sock):
            start(client)
    finally:
        for thread, client in list(running.items()):
            # This wakes the waiting thread. It does so for UDP too, although it raises ENOTCONN.
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            thread.join()


async def _serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()  # waits while the client does not read
        writer.close()
        await writer.wait_closed()
    except OSError:
        pass  # the client has gone
    except asyncio.CancelledError:
        pass  # the server ends; asyncio's streams would report a cancelled task
    finally:
        if not writer.transport.is_closing():
            writer.transport.abort()


async def _serve(sock: socket.socket) -> None:
    sock.settimeout(0)
    if sock.type == socket.SOCK_DGRAM:
        loop = asyncio.get_running_loop()
        while True:
            data, sender = await loop.sock_recvfrom(sock, CHUNK)
            with contextlib.suppress(OSError):
                await loop.sock_sendto(sock, data, sender)
    start: Any = (
        asyncio.start_server if sock.family != socket.AF_UNIX else asyncio.start_unix_server
    )
    server = await start(_serve_client, sock=sock, backlog=BACKLOG)
    try:
        # Not serve_forever: from Python 3.12 on, its cancellation waits until all clients leave.
        await asyncio.get_running_loop().create_future()
    finally:
        server.close()


MODELS: Final[dict[str, Callable[[socket.socket], object]]] = {
    "fork": _fork,
    "thread": _thread,
    **{name: partial(serve, name) for name in POLLERS},
    "asyncio": lambda sock: asyncio.run(_serve(sock)),
}
