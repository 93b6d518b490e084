"""Receive descriptors of files that another process has opened, and print the files.

    $ python scripts/fd_recv.py --socket /run/files --count 2
    listening on unix /run/files
    == /etc/shadow
    root:*:19000:0:99999:7:::
    == notes.txt
    buy milk

A receiver can read a file through the sender's descriptor even if it may not open the file itself.
`fd_send.py` is the other side. Without --count it serves one sender, to its end.
"""

from __future__ import annotations

from _common import plain_errors, say

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
import os
import sys

from _net import end_on_sigterm, positive

from ipckit import unixsock


def show(fd: int) -> None:
    """Print all that can be read through a descriptor."""
    with open(fd, "rb", buffering=0) as file:
        while piece := file.read(65536):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def main() -> None:
    """Read the command line and receive."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--socket", required=True, help="the socket file to listen on")
    parser.add_argument("--count", type=positive, help="end after this many files")
    args = parser.parse_args()
    end_on_sigterm()
    with plain_errors(), unixsock.listen(args.socket, "seqpacket") as listener:
        say(f"listening on unix {args.socket}")
        left = sys.maxsize if args.count is None else args.count
        while left:
            before = left
            with listener.accept() as sender:
                while left and not (packet := sender.receive(4096, max_fds=1)).eof:
                    with packet:
                        if not packet.fds:
                            message = "a message came without a descriptor"
                            raise ValueError(message)
                        say(f"== {os.fsdecode(packet.data)}")
                        show(packet.fds.take())
                    left -= 1
            # A connection without a file is another listener's probe.
            if args.count is None and left < before:
                return


if __name__ == "__main__":
    main()
