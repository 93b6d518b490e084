"""Passes arrays and counters to processes that a start method starts; run by `Child` with it."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from ipckit.pool import ProcessPool
from ipckit.shm import Counter, SharedArray


def fill(arrays: list[SharedArray[Any]], done: Counter) -> None:
    for array in arrays:
        with array:
            array.array[...] += 1
            if array.owner:
                sys.exit(3)
    done.add(len(arrays))


def count(array: SharedArray[Any], done: Counter, index: int) -> int:
    array.array[index % array.shape[0]] += 1
    return done.add()


def squares(n: int) -> SharedArray[Any]:
    return SharedArray.from_array(np.arange(n) ** 2)  # only the result's pickle keeps it


def main(method: str) -> dict[str, Any]:
    context: Any = multiprocessing.get_context(method)
    result: dict[str, Any] = {}
    with (
        SharedArray.create(5, np.int64) as array,
        SharedArray.create((2, 3), float, name=f"ipckit-share-{method}", order="F") as named,
        SharedArray.create(3, np.int16, name=f"ipckit-gone-{method}") as unlinked,
        Counter.create() as done,
    ):
        unlinked.unlink()
        child = context.Process(target=fill, args=([array, named, unlinked], done))
        child.start()
        child.join()
        result["process"] = [child.exitcode, done.value]
        child.close()
        result["seen"] = [each.array.sum() for each in (array, named, unlinked)]
        for kind in (ProcessPool, ProcessPoolExecutor) if method == "fork" else ():
            with kind(2, mp_context=context) as pool:
                tasks = [pool.submit(count, array, done, index) for index in range(40)]
                result[kind.__name__] = sorted(task.result() for task in tasks)
                with pool.submit(squares, 4).result() as made:
                    result[f"{kind.__name__} made"] = made.array
        if method == "fork":
            result["sum"] = array.array.sum()
    return {key: np.asarray(value).tolist() for key, value in result.items()}


if __name__ == "__main__":
    result = main(sys.argv[1])
