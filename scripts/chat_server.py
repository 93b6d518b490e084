"""A chat room: each line goes to all other members. With --name, this terminal is a member too.

    $ python scripts/chat_server.py --port 8899
    listening on tcp 127.0.0.1:8899
    $ python scripts/chat_server.py --transport unix --path /run/chat --name ann
    listening on unix /run/chat
    * bob is here
    bob: hello ann

Clients send lines of text: first a name, then messages. When a member leaves, the others are told.
A member who does not read is removed. The room ends with Ctrl-C, or when ann's input ends.
"""

from __future__ import annotations

from _common import plain_errors

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
from typing import TYPE_CHECKING

from _chat import Host, Room, Visitor, person
from _loop import POLLERS, Acceptor, Loop
from _net import add_address_options, address_of, end_on_sigterm, listening

if TYPE_CHECKING:
    import socket


def main() -> None:
    """Read the command line and run the room."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_address_options(parser, ["tcp", "unix"])
    parser.add_argument("--name", type=person, help="join from this terminal under this name")
    args = parser.parse_args()
    address = address_of(args, parser)
    end_on_sigterm()
    with plain_errors(), listening(address) as listener:
        # poll, because standard input may be a file, which epoll does not accept.
        loop = Loop(POLLERS["poll"]())
        room = Room(loop)

        def visitor(sock: socket.socket) -> Visitor:
            return Visitor(sock, room)

        if args.name is not None:
            loop.add(Host(args.name, room))
        loop.add(Acceptor(listener, visitor))
        loop.run()


if __name__ == "__main__":
    main()
