r"""Put a numpy array from a .npy file into POSIX shared memory.

    $ python scripts/posix_shm_write.py --name /frames array.npy

It prints nothing; `posix_shm_read.py` shows the array in another process, with no copy. The memory
has the file's contents: a .npy header with dtype and shape, then the data.
"""

from __future__ import annotations

from _common import plain_errors

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on: numpy is slow to import.
import argparse
import io
from typing import Any

import numpy as np

from ipckit import PosixSharedMemory


def header_of(array: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    """Return the .npy header of an array, padded so that the data after it is aligned."""
    header = io.BytesIO()
    facts = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_2_0(header, facts)
    return header.getvalue()


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", required=True, help="the memory's name, such as /frames")
    parser.add_argument("file", help="a .npy file")
    args = parser.parse_args()
    with plain_errors():
        # Mapped, so that the data is copied once: from the page cache to the shared memory.
        array = np.lib.format.open_memmap(args.file, mode="r")
        # Data in Fortran order is the transposed array's data in C order.
        data = array if array.flags.c_contiguous else array.T
        header = header_of(array)
        with PosixSharedMemory.create(args.name, len(header) + array.nbytes) as memory:
            memory.array(data.dtype, data.shape, offset=len(header))[...] = data
            # The header is last, so that an early reader finds no array rather than half of one.
            memory.write(header)
            memory.disown()


if __name__ == "__main__":
    main()
