"""An echo server that systemd starts for the first client, with sockets that already listen.

    $ systemd-socket-activate --listen /tmp/echo.sock --listen 8899 --fdname unix:web \
          python scripts/activated_server.py --idle 10
    Listening on /tmp/echo.sock as 3.
    Listening on [::]:8899 as 4.
    serving unix: <UnixListener UNIX socket /tmp/echo.sock, stream, open>
    serving web: tcp [::]:8899
    no client for 10.0 s

No waiting client is lost when the server starts or ends, because the backlog belongs to the socket,
and systemd keeps it open. To run this as a service, add a socket unit with ListenStream= and
FileDescriptorName=; see systemd.socket(5).
"""

from __future__ import annotations

from _common import plain_errors, say, seconds

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
import socket
from contextlib import ExitStack

from _echo_loop import Client
from _loop import POLLERS, Acceptor, Loop
from _net import end_on_sigterm

from ipckit import UnixListener, inherited


def listener_of(name: str, handle: object) -> socket.socket:
    """Return the socket of an inherited handle, which must be a listening stream socket."""
    sock = handle.socket if isinstance(handle, UnixListener) else handle
    if not isinstance(sock, socket.socket) or sock.type != socket.SOCK_STREAM:
        message = f"{name} is {handle!r}, not a listening stream socket"
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
    """Serve on the inherited sockets, until no client has come for a while."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--idle", type=seconds, help="end after this many seconds without a client")
    args = parser.parse_args()
    end_on_sigterm()
    with plain_errors(), ExitStack() as stack:
        handles = inherited()
        if not handles:
            message = "nothing was inherited: start it with systemd or systemd-socket-activate"
            raise ValueError(message)
        for each in handles:
            stack.enter_context(each.handle)
        loop = Loop(POLLERS["epoll"]())
        for each in handles:
            loop.add(Acceptor(listener_of(*each), Client))
        loop.run(args.idle)
        say(f"no client for {args.idle} s")


if __name__ == "__main__":
    main()
