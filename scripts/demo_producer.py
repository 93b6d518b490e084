"""Send this machine's process table to a System V queue, with one message type for each record.

$ python scripts/demo_producer.py 1234        # `make demo` creates the queue and runs this
producer 4711: sent 23 processes and 71 kernel threads
"""

from __future__ import annotations

import os
import sys
import time

from _common import key_argument, plain_errors
from _process_table import MESSAGES, Process, Summary, sample

from ipckit import SysVMessageQueue


def main() -> None:
    """Send each record, waiting while the queue is full, and a summary last."""
    key = key_argument((__doc__ or "").partition("\n")[0])
    with plain_errors(), SysVMessageQueue.open(key, MESSAGES) as queue:
        processes = threads = 0
        for record in sample():
            queue.send(record)
            if isinstance(record, Process):
                processes += 1
            else:
                threads += 1
        queue.send(Summary(processes, threads, time.clock_gettime(time.CLOCK_BOOTTIME)))
        print(
            f"producer {os.getpid()}: sent {processes} processes and {threads} kernel threads",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
