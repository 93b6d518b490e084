"""An echo server that does not listen itself: systemd has, and starts it for the first client.

    $ systemd-socket-activate --listen /tmp/echo.sock --listen 8899 --fdname unix:web \
          python scripts/activated_server.py --idle 10
    Listening on /tmp/echo.sock as 3.
    Listening on [::]:8899 as 4.
    serving unix: <UnixListener UNIX socket /tmp/echo.sock, stream, open>
    serving web: tcp [::]:8899
    nobody came for 10.0 s

What waits in the queue meanwhile is lost by neither a start nor an end: the queue belongs to the
socket, which systemd keeps. As a service it takes a unit with ListenStream= and FileDescriptorName=
beside it; see systemd.socket(5).
"""

from __future__ import annotations

from _common import plain_errors, say, seconds

# isort: split
# After it, because from there on Ctrl-C is quiet.
import argparse
import socket
from contextlib import ExitStack

from _echo_loop import Client
from _loop import POLLERS, Acceptor, Loop
from _net import end_on_sigterm

from ipckit import UnixListener, inherited


def listener_of(name: str, handle: object) -> socket.socket:
    """The socket of something inherited, which must be a stream's that listens."""
    sock = handle.socket if isinstance(handle, UnixListener) else handle
    if not isinstance(sock, socket.socket) or sock.type != socket.SOCK_STREAM:
        message = f"{name} is {handle!r}, and no socket that accepts streams"
        raise ValueError(message)
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        message = f"{name} is a connection: run it with Accept=no"
        raise ValueError(message)
    if isinstance(handle, UnixListener):
        say(f"serving {name}: {handle!r}")
    else:
        host, port = sock.getsockname()[:2]
        say(f"serving {name}: tcp {f'[{host}]' if ':' in host else host}:{port}")
    return sock


def main() -> None:
    """Serve on what was inherited, until nobody has come for a while."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--idle", type=seconds, help="end after so many seconds without a client")
    args = parser.parse_args()
    end_on_sigterm()
    with plain_errors(), ExitStack() as stack:
        handles = inherited()
        if not handles:
            message = "nothing was inherited: start it by systemd, or by systemd-socket-activate"
            raise ValueError(message)
        for each in handles:
            stack.enter_context(each.handle)
        loop = Loop(POLLERS["epoll"]())
        for each in handles:
            loop.add(Acceptor(listener_of(*each), Client))
        loop.run(args.idle)
        say(f"nobody came for {args.idle} s")


if __name__ == "__main__":
    main()
