"""Tasks that are cancelled all the time, while other processes send as fast as they can."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from ipckit import PosixMessageQueue, PosixSemaphore, SysVMessageQueue, SysVSemaphoreSet, aio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

pytestmark = pytest.mark.soak

EACH = 10_000
SENDERS = 2

SEND = """
import ipckit, struct
cls, where, first, count = args
with getattr(ipckit, cls).open(where) as queue:
    for number in range(first, first + count):
        queue.send(struct.pack("q", number))
result = count
"""

RELEASE = """
import ipckit
cls, where, _, count = args
handle = getattr(ipckit, cls).open(where)
semaphore = handle[0] if cls == "SysVSemaphoreSet" else handle
for _ in range(count):
    semaphore.release()
handle.close()
result = count
"""


async def taken_by_the_fickle(take: Callable[[], Any], wanted: int) -> Counter[int]:
    """What tasks take who are cancelled at any moment, a hundred at a time."""
    got: Counter[int] = Counter()
    count = 0

    async def one() -> None:
        nonlocal count
        value = await take()
        got[value] += 1
        count += 1

    tasks: set[asyncio.Task[None]] = set()
    while count < wanted:
        while len(tasks) < 100:
            tasks.add(asyncio.ensure_future(one()))
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        for task in random.sample(sorted(tasks, key=id), 30):
            task.cancel()
        await asyncio.sleep(random.choice((0, 0, 0.001)))
        tasks = {task for task in tasks if not task.done()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return got


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("cls", [SysVMessageQueue, PosixMessageQueue])
def test_nothing_is_lost_and_nothing_comes_twice(
    ns: Namespace, spawn: Callable[..., Child], cls: Any, loop: str
) -> None:
    where = ns.key() if cls is SysVMessageQueue else ns.name()
    options: dict[str, Any] = {} if cls is SysVMessageQueue else {"max_size": 8}
    with cls.create(where, **options) as queue:
        senders = [spawn(SEND, cls.__name__, where, place * EACH, EACH) for place in range(SENDERS)]
        face = aio.wrap(queue)

        async def take() -> int:
            return int.from_bytes((await face.receive()).value, "little")

        got: Counter[int] = anyio.run(
            taken_by_the_fickle,
            take,
            EACH * SENDERS,
            backend="asyncio",
            backend_options={"use_uvloop": loop == "uvloop"},
        )
        assert got == Counter(range(EACH * SENDERS))
        assert [each.result for each in senders] == [EACH] * SENDERS


@pytest.mark.parametrize("cls", [SysVSemaphoreSet, PosixSemaphore])
def test_no_unit_is_lost(ns: Namespace, spawn: Callable[..., Child], cls: Any) -> None:
    where = ns.key() if cls is SysVSemaphoreSet else ns.name()
    handle = cls.create(where, [0] if cls is SysVSemaphoreSet else 0)
    try:
        senders = [spawn(RELEASE, cls.__name__, where, 0, EACH) for _ in range(SENDERS)]
        semaphore = handle[0] if cls is SysVSemaphoreSet else handle

        async def take() -> int:
            await aio.wrap(semaphore).acquire()
            return 0

        got = asyncio.run(taken_by_the_fickle(take, EACH * SENDERS))
        assert got[0] == EACH * SENDERS
        assert semaphore.value == 0
        assert [each.result for each in senders] == [EACH] * SENDERS
    finally:
        handle.unlink()
        handle.close()
