"""`send_many` in an event loop says how many messages it sent, whatever ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from ipckit import aio
from ipckit.channel import Channel
from ipckit.structs import Int, Struct


class Number(Struct):
    n: Int


def numbers(count: int, *, rows: bool) -> Any:
    if not rows:
        return [Number(i) for i in range(count)]
    made = np.zeros(count, Number.dtype)
    made["n"] = range(count)
    return made


@pytest.mark.parametrize("rows", [False, True])
def test_more_than_fits_is_sent_in_order(rows: bool) -> None:  # noqa: FBT001 - by name
    async def main() -> list[int]:
        found: list[int] = []
        with Channel.create(None, Number, capacity=10) as channel:
            wrapped = aio.wrap(channel)
            sending = asyncio.create_task(wrapped.send_many(numbers(45, rows=rows)))
            while len(found) < 45:
                found += [int(each["n"]) for each in await wrapped.receive_many()]
            await sending
        return found

    assert asyncio.run(main()) == list(range(45))


@pytest.mark.parametrize("rows", [False, True])
def test_a_timeout_and_a_cancellation_say_how_many_were_sent(rows: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        with Channel.create(None, Number, capacity=10) as channel:
            wrapped = aio.wrap(channel)
            with pytest.raises(TimeoutError) as late:
                await wrapped.send_many(numbers(25, rows=rows), timeout=0.05)
            assert late.value.sent == len(channel) == 10  # type: ignore[attr-defined]
            taken = [channel.receive() for _ in range(4)]
            sending = asyncio.create_task(wrapped.send_many(numbers(25, rows=rows)))
            while len(channel) < 10:
                await asyncio.sleep(0)
            taken += [channel.receive() for _ in range(3)]
            while len(channel) < 10:
                await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError) as cancelled:
                await sending
            assert len(taken) == cancelled.value.sent == 7  # type: ignore[attr-defined]

    asyncio.run(main())


def test_a_value_of_another_type_is_counted_up_to() -> None:
    async def main() -> None:
        with Channel.create(None, str) as channel:
            wrapped = aio.wrap(channel)
            with pytest.raises(TypeError) as wrong:
                await wrapped.send_many(["a", "b", 3])  # type: ignore[list-item]
            assert wrong.value.sent == 2  # type: ignore[attr-defined]
            assert await wrapped.receive_many() == ["a", "b"]

    asyncio.run(main())
