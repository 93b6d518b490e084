"""Join a chat: send what you type to all members, and show what they type.

    $ python scripts/chat_client.py --port 8899 --name bob
    * here: ann, bob
    ann: hello bob
    * ann has left

Both sides may type at any time, because the client waits for its input and its socket together. It
leaves when its input ends, and says so if the room closes. `chat_server.py` is the other side.
"""

from __future__ import annotations

from _common import plain_errors, say

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
import selectors
import sys
from typing import TYPE_CHECKING

from _chat import MAX_LINE, person, text_of, typed
from _net import add_address_options, address_of, connected, named

from ipckit.framing import DelimitedFrames

if TYPE_CHECKING:
    import socket


def shown(line: bytes) -> None:
    """Print a line from the room; a refusal is an error."""
    text = text_of(line)
    if text.startswith("! "):
        raise ValueError(text[2:])
    say(text)


def talk(sock: socket.socket) -> None:
    """Pass lines in both directions until one side ends."""
    frames = DelimitedFrames(b"\n", max_size=2 * MAX_LINE)
    last = b"\n"
    # Standard input may be a file, which select and poll accept and epoll does not.
    with selectors.SelectSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        selector.register(sock, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not sock:
                    last = typed(sock, last=last)
                    if not last:
                        selector.unregister(key.fileobj)
                elif data := sock.recv(65536):
                    for line in frames.feed(data):
                        shown(line)
                else:
                    if last:
                        say("* the room is closed")
                    return


def main() -> None:
    """Read the command line and join."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_address_options(parser, ["tcp", "unix"])
    parser.add_argument("--name", type=person, required=True, help="your name in the chat")
    args = parser.parse_args()
    address = address_of(args, parser)
    with plain_errors(), connected(address) as sock, named(address):
        sock.sendall(args.name.encode() + b"\n")
        talk(sock)


if __name__ == "__main__":
    main()
