"""Addresses of the socket scripts: shared options, and one text form."""

from __future__ import annotations

import signal
import socket
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ipckit import unixsock

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Sequence

BACKLOG: Final = 1024
_LAST_PORT: Final = 65535


def port(text: str) -> int:
    """Parse a port from the command line; 0 lets the kernel choose."""
    number = int(text)
    if not 0 <= number <= _LAST_PORT:
        message = f"port {number} is not in 0 to {_LAST_PORT}"
        raise ValueError(message)
    return number


def positive(text: str) -> int:
    """Parse a count from the command line."""
    number = int(text)
    if number < 1:
        message = f"{number} is less than 1"
        raise ValueError(message)
    return number


@dataclass(frozen=True)
class Address:
    """An address from the options. Its text form is ``tcp 127.0.0.1:8899`` or ``unix /tmp/s``."""

    transport: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        where = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport} {self.path or f'{where}:{self.port}'}"

    def resolve(self) -> tuple[socket.AddressFamily, socket.SocketKind, Any]:
        """Return the family, the kind, and the address for socket(2)."""
        if self.transport == "unix":
            return socket.AF_UNIX, socket.SOCK_STREAM, self.path
        kind = socket.SOCK_DGRAM if self.transport == "udp" else socket.SOCK_STREAM
        family, _, _, _, where = socket.getaddrinfo(self.host, self.port, type=kind)[0]
        return family, kind, where


def add_address_options(
    parser: argparse.ArgumentParser, transports: Sequence[str] = ("tcp", "unix", "udp")
) -> None:
    """Add ``--transport``, ``--host``, ``--port`` and ``--path``, for `address_of`."""
    parser.add_argument("--transport", choices=transports, default="tcp")
    add_inet_options(parser)
    parser.add_argument("--path", help="the socket file of --transport unix")


def add_inet_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--host`` and ``--port``."""
    parser.add_argument("--host", help="127.0.0.1 if not given")
    parser.add_argument("--port", type=port, help="8899 if not given; 0 lets the kernel choose")


def address_of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Address:
    """Return the address that the options name; a usage error if they contradict each other."""
    if args.transport == "unix":
        if not args.path:
            parser.error("--transport unix needs --path")
        if args.host is not None or args.port is not None:
            parser.error("--transport unix takes --path, not --host or --port")
        return Address("unix", path=args.path)
    if args.path is not None:
        parser.error("--path goes with --transport unix")
    return inet_address(args, args.transport)


def inet_address(args: argparse.Namespace, transport: str) -> Address:
    """Return the address that ``--host`` and ``--port`` name."""
    return Address(transport, args.host or "127.0.0.1", 8899 if args.port is None else args.port)


@contextmanager
def named(address: Address) -> Generator[None]:
    """Add the address to errors of the socket."""
    try:
        yield
    except ConnectionRefusedError as exc:
        icmp = " (the ICMP message: port unreachable)" if address.transport == "udp" else ""
        message = f"no process listens on {address}{icmp}"
        raise ConnectionRefusedError(exc.errno, message) from exc
    except BrokenPipeError as exc:
        # Another type, because a broken pipe of standard output ends a script silently.
        message = f"the other side of {address} has closed the connection"
        raise ConnectionResetError(exc.errno, message) from exc
    except OSError as exc:
        if exc.filename is None and exc.errno is not None:
            exc.filename = str(address)
        raise


@contextmanager
def bound(address: Address) -> Generator[socket.socket]:
    """Yield a listening socket, or a bound one for UDP."""
    if address.transport == "unix":
        # `listen` replaces a stale socket file, and removes its own at the end.
        with unixsock.listen(address.path, "stream", backlog=BACKLOG) as listener:
            listener.socket.settimeout(None)
            yield listener.socket
        return
    family, kind, where = address.resolve()
    with socket.socket(family, kind) as sock:
        with named(address):
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
            if kind == socket.SOCK_STREAM:
                sock.listen(BACKLOG)
        yield sock


@contextmanager
def listening(address: Address) -> Generator[socket.socket]:
    """Yield a socket as `bound` does, after printing that it is ready."""
    with bound(address) as sock:
        announce(address, sock)
        yield sock


def announce(address: Address, sock: socket.socket) -> None:
    """Print that a server is ready, with the port that the kernel chose."""
    if address.transport != "unix":
        address = Address(address.transport, *sock.getsockname()[:2])
    print(f"listening on {address}", flush=True)


def connected(address: Address) -> socket.socket:
    """Return a connected socket. UDP is connected too, so that it reports ICMP errors."""
    family, kind, where = address.resolve()
    sock = socket.socket(family, kind)
    try:
        with named(address):
            sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock


def end_on_sigterm() -> None:
    """Make SIGTERM end a server as Ctrl-C does, and so remove its socket file."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
