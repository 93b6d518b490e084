"""Where the socket scripts listen and connect: one set of options, one wording of addresses."""

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
    """A port on the command line; 0 lets the kernel choose."""
    number = int(text)
    if not 0 <= number <= _LAST_PORT:
        message = f"port {number} is not in 0 to {_LAST_PORT}"
        raise ValueError(message)
    return number


def positive(text: str) -> int:
    """A count on the command line."""
    number = int(text)
    if number < 1:
        message = f"{number} is less than 1"
        raise ValueError(message)
    return number


@dataclass(frozen=True)
class Address:
    """What the options say, and how it reads: ``tcp 127.0.0.1:8899``, ``unix /tmp/s``."""

    transport: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        where = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport} {self.path or f'{where}:{self.port}'}"

    def resolve(self) -> tuple[socket.AddressFamily, socket.SocketKind, Any]:
        """Family, kind and the address as socket(2) wants it."""
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
    """The address that the options name; bad usage where they do not fit together."""
    if args.transport == "unix":
        if not args.path:
            parser.error("--transport unix needs --path")
        if args.host is not None or args.port is not None:
            parser.error("--transport unix has a --path, and no --host or --port")
        return Address("unix", path=args.path)
    if args.path is not None:
        parser.error("--path goes with --transport unix")
    return inet_address(args, args.transport)


def inet_address(args: argparse.Namespace, transport: str) -> Address:
    """The address that ``--host`` and ``--port`` name."""
    return Address(transport, args.host or "127.0.0.1", 8899 if args.port is None else args.port)


@contextmanager
def named(address: Address) -> Generator[None]:
    """Let an error of a socket say which address it was about."""
    try:
        yield
    except ConnectionRefusedError as exc:
        icmp = " (the ICMP message: port unreachable)" if address.transport == "udp" else ""
        message = f"nobody listens on {address}{icmp}"
        raise ConnectionRefusedError(exc.errno, message) from exc
    except BrokenPipeError as exc:
        # Not the one of standard output, which ends a script without a word.
        message = f"the other side of {address} has closed the connection"
        raise ConnectionResetError(exc.errno, message) from exc
    except OSError as exc:
        if exc.filename is None and exc.errno is not None:
            exc.filename = str(address)
        raise


@contextmanager
def bound(address: Address) -> Generator[socket.socket]:
    """Yield a socket that listens, or for UDP is bound."""
    if address.transport == "unix":
        # It replaces a socket file that nobody listens on, and removes its own at the end.
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
    """Yield a socket as `bound` does, and say where once it is ready."""
    with bound(address) as sock:
        announce(address, sock)
        yield sock


def announce(address: Address, sock: socket.socket) -> None:
    """Print the line that says a server is ready, with the port that the kernel chose."""
    if address.transport != "unix":
        address = Address(address.transport, *sock.getsockname()[:2])
    print(f"listening on {address}", flush=True)


def connected(address: Address) -> socket.socket:
    """A socket connected to the address; of UDP too, so that it sees ICMP errors."""
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
    """Let ``kill`` end a server as Ctrl-C does, with its socket file removed."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
