"""A parent and its child talk in both directions over a socket pair, with a half-close.

    $ python scripts/socketpair_demo.py hello world
    parent sent hello
    parent sent world
    parent has shut down its writing
    child answered HELLO
    child answered WORLD
    child saw the end after 2 messages
    parent saw the end

After `shutdown("write")` the child sees the end, and its replies still reach the parent. After
`close` they would not.
"""

from __future__ import annotations

from _common import plain_errors, say

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
import os
from functools import partial

from _children import in_child

from ipckit import unixsock


def child(parent_end: unixsock.UnixSocket, sock: unixsock.UnixSocket) -> None:
    """Answer each message, and after the end report the number of messages."""
    # While this copy is open, the child does not see an end when the parent closes.
    parent_end.close()
    count = 0
    with sock:
        while not (packet := sock.receive()).eof:
            sock.send(b"answered " + packet.data.upper())
            count += 1
        sock.send(b"saw the end after %d messages" % count)


def main() -> None:
    """Read the command line and run the parent."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", nargs="+", help="a message from the parent")
    args = parser.parse_args()
    with plain_errors():
        sock, other = unixsock.pair("seqpacket")
        with sock:
            with other:
                pid = in_child(partial(child, sock, other))
            for text in args.text:
                sock.send(os.fsencode(text))
                say(f"parent sent {text}")
            sock.shutdown("write")
            say("parent has shut down its writing")
            while not (packet := sock.receive()).eof:
                say(f"child {os.fsdecode(packet.data)}")
            say("parent saw the end")
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
