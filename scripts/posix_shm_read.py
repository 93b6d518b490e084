r"""Show the numpy array that `posix_shm_write.py` put into POSIX shared memory, with no copy.

    $ python scripts/posix_shm_read.py --name /frames --out copy.npy --remove
    shape (480, 640) dtype uint8 sum 39168000 min 0 max 255

The contents of the memory are not trusted: an invalid header, a dtype with Python objects, and an
array that does not fit are errors.
"""

from __future__ import annotations

from _common import plain_errors, say

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on: numpy is slow to import.
import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np

from ipckit import PosixSharedMemory

_HEADER_MAX = 12 + 10_000  # numpy's limit for an untrusted header
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def array_in(memory: PosixSharedMemory) -> np.ndarray[Any, np.dtype[Any]]:
    """Return an array over the memory itself; ValueError if the memory does not hold one."""
    head = io.BytesIO(memory.read(min(memory.size, _HEADER_MAX)))
    try:
        read = _READERS[np.lib.format.read_magic(head)]
        shape, fortran, dtype = read(head)
    except Exception:  # numpy raises various types for garbage
        message = f"shared memory {memory.name} holds no array, or none yet"
        raise ValueError(message) from None
    if dtype.hasobject or dtype.itemsize == 0:
        message = f"dtype {dtype} has no bytes that this process could read"
        raise ValueError(message)
    array = memory.array(dtype, shape[::-1] if fortran else shape, offset=head.tell())
    return array.T if fortran else array


def describe(array: np.ndarray[Any, np.dtype[Any]]) -> str:
    """Return shape and dtype, and for numbers also sum, minimum and maximum."""
    text = f"shape {array.shape} dtype {array.dtype}"
    if array.dtype.kind in "biufc" and array.size:
        with np.errstate(all="ignore"):
            text += f" sum {array.sum()} min {array.min()} max {array.max()}"
    return text


def main() -> None:
    """Read the command line and show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", required=True, help="the memory's name, such as /frames")
    parser.add_argument("--out", type=Path, help="also save the array as this .npy file")
    parser.add_argument("--remove", action="store_true", help="unlink the memory after reading")
    args = parser.parse_args()
    with plain_errors(), PosixSharedMemory.open(args.name, readonly=True) as memory:
        array = array_in(memory)
        say(describe(array))
        if args.out is not None:
            with args.out.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        if args.remove:
            memory.unlink()


if __name__ == "__main__":
    main()
