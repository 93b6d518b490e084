"""`receive_into` in an event loop waits for a message and copies it into the buffer."""

from __future__ import annotations

import asyncio

import pytest

import ipckit
from ipckit import aio
from ipckit.channel import Channel


def test_it_waits_for_a_message_and_loses_none() -> None:
    async def main() -> None:
        with Channel.create(None, bytes) as channel:
            wrapped = aio.wrap(channel)
            buffer = bytearray(8)
            receiving = asyncio.create_task(wrapped.receive_into(buffer))
            await asyncio.sleep(0)
            assert not receiving.done()
            await wrapped.send(b"hello")
            assert await receiving == 5
            assert buffer == b"hello\0\0\0"
            with pytest.raises(ipckit.WouldBlock):
                await wrapped.receive_into(buffer, timeout=0)
            await wrapped.send(bytes(9))
            with pytest.raises(ipckit.MessageTooLong):
                await wrapped.receive_into(buffer)
            assert await wrapped.receive() == bytes(9)

    asyncio.run(main())
