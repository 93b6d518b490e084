"""Open files, and pass their descriptors to a process that needs no permission of its own.

    $ python scripts/fd_send.py --socket /run/files /etc/shadow notes.txt

It prints nothing. Each file is one message, with the file's name as data. All files are opened
before the first is passed. `fd_recv.py` is the other side; start it first.
"""

from __future__ import annotations

from _common import plain_errors

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
import os
from contextlib import ExitStack
from pathlib import Path

from ipckit import unixsock


def main() -> None:
    """Read the command line and pass the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--socket", required=True, help="where fd_recv.py listens")
    parser.add_argument("file", nargs="+", help="a file to open for reading")
    args = parser.parse_args()
    with plain_errors(), ExitStack() as stack:
        files = [stack.enter_context(Path(each).open("rb", buffering=0)) for each in args.file]
        receiver = stack.enter_context(unixsock.connect(args.socket, "seqpacket"))
        for name, file in zip(args.file, files, strict=True):
            receiver.send(os.fsencode(name), fds=[file])


if __name__ == "__main__":
    main()
