"""The messages between a pool and its workers.

Each begins with a word: the task's number in the low 56 bits, and the kind in the high 8. A result
also has the index of the worker and the seconds that the task took. Then follows a pickle or a
frame; see `ipckit._process_queue.pickling`.
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
LONG_CALL: Final = 1  # the place of a function and its arguments in the file of long jobs
STOP: Final = 2  # the worker that receives it exits
NUDGE: Final = 3  # nothing; it wakes a worker, which looks for other messages

# The kinds of messages of a worker.
VALUE: Final = 0  # the task's result
ERROR: Final = 1  # the task's exception
RETURNED: Final = 2  # a job that a dead worker had; the message contains the job
READY: Final = 3  # the worker has started
NOT_READY: Final = 4  # the worker's initializer raised an exception
LEAVING: Final = 5  # the worker has run as many tasks as it may, and exits
WAKE: Final = 6  # from the pool to its own thread


def joined(head: bytes, value: object) -> bytes | Parts:
    """Return the message of a head and an object, as bytes or as parts to be copied in a row.

    Raises:
        Exception: any exception of pickling the object.
    """
    kind = type(value)
    if kind in PLAIN and (kind not in SIZED or len(value) < LARGE):  # type: ignore[arg-type]
        return head + dumps(value, 5)
    body = encode(value)
    return head + body if isinstance(body, bytes) else [head, *body]


def opened(body: memoryview) -> Any:
    """Return the object in a message, given the bytes behind the head.

    Raises:
        Exception: any exception of unpickling the object.
    """
    if body[0] == _PICKLE_BYTE:  # the usual case, without another call
        return loads(body)  # noqa: S301 - a pool and its workers trust each other
    return decode(body)
