"""The format of the messages between a pool and its workers.

Each message begins with a 64-bit word: the task's number in the low 56 bits, and the kind of the
message in the high 8 bits. A message of a worker then has the worker's place and the seconds that
the task took. A pickle or a frame follows; see `ipckit._process_queue.pickling`.
"""

from __future__ import annotations

import struct
from pickle import dumps, loads
from typing import TYPE_CHECKING, Any, Final

from ipckit._process_queue.pickling import LARGE, PICKLE, PLAIN, SIZED, decode, encode

if TYPE_CHECKING:
    from ipckit._process_queue.pickling import Parts

_PICKLE_BYTE: Final = PICKLE[0]
KIND_SHIFT: Final = 56
NUMBER_MASK: Final = (1 << KIND_SHIFT) - 1

JOB_HEAD: Final = struct.Struct("=Q")
RESULT_HEAD: Final = struct.Struct("=QIf")
REFERENCE: Final = struct.Struct("=QQ")  # the offset and size of a long job in its file

# The kinds of messages to a worker.
CALL: Final = 0  # a function and its arguments
LONG_CALL: Final = 1  # a reference to a function and its arguments in the file of long jobs
STOP: Final = 2  # the worker that receives this message exits
NUDGE: Final = 3  # wakes a worker, which then looks for other messages

# The kinds of messages from a worker.
VALUE: Final = 0  # the task's result
ERROR: Final = 1  # the task's exception
RETURNED: Final = 2  # the job of a dead worker, which the message contains
READY: Final = 3  # the worker has started
NOT_READY: Final = 4  # the worker's initializer raised an exception
LEAVING: Final = 5  # the worker has run its maximum number of tasks, and exits
WAKE: Final = 6  # from the pool to the manager's thread


def joined(head: bytes, value: object) -> bytes | Parts:
    """Return a message with a head and a pickled object, as bytes or as parts to be joined.

    Raises:
        Exception: the object can't be pickled.
    """
    kind = type(value)
    if kind in PLAIN and (kind not in SIZED or len(value) < LARGE):  # type: ignore[arg-type]
        return head + dumps(value, 5)
    body = encode(value)
    return head + body if isinstance(body, bytes) else [head, *body]


def opened(body: memoryview) -> Any:
    """Return the object in a message, given the bytes after the head.

    Raises:
        Exception: the object can't be unpickled.
    """
    if body[0] == _PICKLE_BYTE:  # the usual case, without the cost of another function call
        return loads(body)  # noqa: S301 - a pool and its workers trust each other
    return decode(body)
