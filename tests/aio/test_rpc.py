"""Services and clients in event loops."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator  # noqa: TC003 - services read annotations
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import numpy as np
import numpy.typing as npt
import pytest
from rpc_methods import Gate

from ipckit import ClosedHandle, InvalidArgument, NotFound, PeerGone, RemoteError, Timeout, aio
from ipckit.rpc import Client, Service, current

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from ipckit.testing import Child, Namespace

    Run = Callable[..., Any]
    Serve = Callable[..., str]


def add(a: int, b: int = 1) -> int:
    return a + b


def fail(text: str) -> None:
    raise ValueError(text)


def count(limit: int) -> Iterator[int]:
    yield from range(limit)


def echo(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return x


async def add_later(a: int, b: int = 1) -> int:
    await anyio.sleep(0.001)
    return a + b


async def fail_later(text: str) -> None:
    await anyio.lowlevel.checkpoint()
    raise ValueError(text)


async def count_later(limit: int) -> AsyncIterator[int]:
    for each in range(limit):
        await anyio.lowlevel.checkpoint()
        yield each


class AsyncGate(Gate):
    """The same in an event loop."""

    async def sleep_until_cancelled(self) -> None:
        """Sleep; the task is cancelled."""
        call = current()
        self.begun.put(call)
        try:
            await anyio.sleep_forever()
        finally:
            self.ended.put(call.cancelled)

    async def endless(self) -> AsyncIterator[int]:
        """Yield until the generator is closed."""
        call = current()
        self.begun.put(call)
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            self.ended.put(call.cancelled)


@pytest.fixture
def serve(ns: Namespace) -> Iterator[Serve]:
    """Serves functions in threads; returns the name of the service."""
    with ExitStack() as stack:

        def start(*functions: Callable[..., Any], workers: int = 1) -> str:
            service = stack.enter_context(Service.create(ns.name()))
            for each in functions:
                service.method(each)
            thread = threading.Thread(target=service.serve, kwargs={"workers": workers})
            stack.callback(thread.join)
            stack.callback(service.close)
            thread.start()
            return service.name

        yield start


@asynccontextmanager
async def served(
    ns: Namespace, *functions: Callable[..., Any], **options: Any
) -> AsyncIterator[aio.ClientFace]:
    """Serve functions in this loop, and yield a client in this loop."""
    with Service.create(ns.name()) as service:
        for each in functions:
            service.method(each)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: aio.serve(service, **options))
            async with aio.wrap(Client.open(service.name)) as client:
                yield client
            service.close()


# -- clients ---------------------------------------------------------------------------------------


def test_calls(run: Run, serve: Serve) -> None:
    name = serve(add, fail, echo)

    async def main() -> None:
        async with aio.wrap(Client.open(name)) as client:
            assert type(client) is aio.ClientFace
            assert await client.call("add", 1, 2, timeout=60) == 3
            assert await client.call("add", a=5) == await client.add(5) == 6
            given = np.arange(300_000.0)
            assert np.array_equal(await client.call("echo", given, timeout=60), given)
            with pytest.raises(RemoteError, match="ValueError: no"):
                await client.call("fail", "no")
            with pytest.raises(TypeError, match="a: Expected `int`, got `str`"):
                await client.call("add", "x")
            with pytest.raises(NotFound, match="it has: add, fail, echo"):
                await client.call("sub")
        with pytest.raises(ClosedHandle):
            await client.call("add", 1)

    run(main)


def test_an_unknown_method_of_a_service_in_the_same_loop(run: Run, ns: Namespace) -> None:
    """The client asked a second time for the methods, and blocked the loop of the service."""

    async def main() -> None:
        async with served(ns, add_later) as client:
            for _ in range(2):
                with pytest.raises(NotFound, match="no method 'nope'"):
                    await client.call("nope", timeout=30)
            assert await client.call("add_later", 1, timeout=30) == 2

    run(main)


def test_tasks_that_share_a_client(run: Run, serve: Serve) -> None:
    """More than a client has places for calls."""
    name = serve(add, workers=2)

    async def main() -> None:
        async with aio.wrap(Client.open(name)) as client:
            found: list[int] = []

            async def call(number: int) -> None:
                found.append(await client.call("add", number, number, timeout=60))

            async with anyio.create_task_group() as group:
                for number in range(600):
                    group.start_soon(call, number)
            assert sorted(found) == list(range(0, 1200, 2))

    run(main)


def test_calls_of_threads_beside_those_of_a_loop(run: Run, serve: Serve) -> None:
    name = serve(add)

    async def main() -> None:
        async with aio.wrap(Client.open(name)) as client:

            def call_on() -> None:
                for number in range(300):
                    assert client.handle.call("add", number, timeout=60) == number + 1

            async with anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, call_on)
                for number in range(300):
                    assert await client.call("add", number, timeout=60) == number + 1

    run(main)


def test_streams(run: Run, serve: Serve) -> None:
    name = serve(count)

    async def main() -> None:
        async with aio.wrap(Client.open(name)) as client:
            stream = await client.call("count", 300, timeout=60)
            assert [each async for each in stream] == list(range(300))
            assert [each async for each in stream] == []
            async with await client.call("count", 1000, timeout=60) as stream:
                assert [await anext(stream) for _ in range(3)] == [0, 1, 2]
            assert [each async for each in stream] == []
            stream = await client.count(10)
            await stream.aclose()
            stream.close()

    run(main)


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_call_that_ends_early(run: Run, serve: Serve, how: str) -> None:
    gate = AsyncGate()
    name = serve(gate.until_cancelled, add)

    async def main() -> None:
        async with aio.wrap(Client.open(name)) as client:
            while gate.begun.empty():  # a call that has not begun is not run at all
                if how == "timeout":
                    with pytest.raises(Timeout, match="until_cancelled"):
                        await client.call("until_cancelled", timeout=0.02)
                else:
                    with anyio.move_on_after(0.02) as scope:
                        await client.call("until_cancelled")
                    assert scope.cancelled_caught
            assert await client.call("add", 1, timeout=60) == 2

    run(main)
    assert gate.ended.get(timeout=60)


def test_a_server_that_dies(run: Run, ns: Namespace, spawn: Callable[..., Child]) -> None:
    code = """
from ipckit.rpc import Service
from ipckit.testing import step
service = Service.open(args[0])
@service.method
def hold() -> None:
    step.tell("begun")
    step.hear()
service.serve()
"""

    async def main() -> None:
        with Service.create(ns.name()) as service:
            child = spawn(code, service.name)
            async with aio.wrap(Client.open(service.name)) as client:

                async def kill() -> None:
                    await anyio.to_thread.run_sync(child.expect, "begun")
                    child.kill()

                async with anyio.create_task_group() as group:
                    group.start_soon(kill)
                    with pytest.raises(PeerGone, match=f"process {child.pid} died"):
                        await client.call("hold", timeout=60)
                with pytest.raises(PeerGone):
                    await client.call("hold", timeout=60)

    run(main)


# -- services --------------------------------------------------------------------------------------


def test_methods_of_each_kind(run: Run, ns: Namespace) -> None:
    async def main() -> None:
        kinds = (add, add_later, count, count_later, fail, fail_later, echo)
        async with served(ns, *kinds) as client:
            for name in ("add", "add_later"):
                assert await client.call(name, 1, timeout=60) == 2
                assert await client.call(name, 1, b=5, timeout=60) == 6
                with pytest.raises(TypeError, match="needs a"):
                    await client.call(name, b=5, timeout=60)
            for name in ("count", "count_later"):
                stream = await client.call(name, 200, timeout=60)
                assert [each async for each in stream] == list(range(200))
            for name in ("fail", "fail_later"):
                with pytest.raises(RemoteError, match="ValueError: no") as caught:
                    await client.call(name, "no", timeout=60)
                assert "raise ValueError(text)" in caught.value.traceback
            given = np.ones((500, 600))
            assert np.array_equal(await client.call("echo", given, timeout=60), given)

    run(main)


def test_methods_run_at_the_same_time(run: Run, ns: Namespace) -> None:
    async def main() -> None:
        waiting: list[anyio.Event] = []

        async def meet() -> int:
            waiting.append(anyio.Event())
            if len(waiting) == 5:
                for each in waiting:
                    each.set()
            await waiting[0].wait()
            return 1

        meet.__annotations__["return"] = int
        async with served(ns, meet) as client:
            found: list[int] = []

            async def call() -> None:
                found.append(await client.call("meet", timeout=60))

            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(call)
            assert found == [1] * 5

    run(main)


def test_a_limit_of_calls(run: Run, ns: Namespace) -> None:
    async def main() -> None:
        running: list[int] = []
        most: list[int] = []

        async def work(x: int) -> int:
            running.append(x)
            most.append(len(running))
            await anyio.sleep(0.001)
            running.remove(x)
            return x

        async with served(ns, work, limit=3) as client:
            found: list[int] = []

            async def call(number: int) -> None:
                found.append(await client.call("work", number, timeout=60))

            async with anyio.create_task_group() as group:
                for number in range(30):
                    group.start_soon(call, number)
            assert sorted(found) == list(range(30))
            assert max(most) <= 3

    run(main)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_out_of_range(run: Run, ns: Namespace, limit: int) -> None:
    async def main() -> None:
        with Service.create(ns.name()) as service, pytest.raises(InvalidArgument, match="limit"):
            await aio.serve(service, limit=limit)

    run(main)


@pytest.mark.parametrize("method", ["sleep_until_cancelled", "until_cancelled"])
def test_a_method_whose_client_leaves(run: Run, ns: Namespace, method: str) -> None:
    gate = AsyncGate()

    async def main() -> None:
        async with served(ns, gate.sleep_until_cancelled, gate.until_cancelled, add) as client:
            while gate.begun.empty():  # a call that has not begun is not run at all
                with pytest.raises(Timeout):
                    await client.call(method, timeout=0.02)
            assert await anyio.to_thread.run_sync(lambda: gate.ended.get(timeout=60))
            assert await client.call("add", 1, timeout=60) == 2

    run(main)


def test_a_stream_whose_client_leaves(run: Run, ns: Namespace) -> None:
    gate = AsyncGate()

    async def main() -> None:
        async with served(ns, gate.endless, add) as client:
            async with await client.call("endless", timeout=60) as stream:
                assert [await anext(stream) for _ in range(150)] == list(range(150))
            assert await anyio.to_thread.run_sync(lambda: gate.ended.get(timeout=60))
            assert await client.call("add", 1, timeout=60) == 2

    run(main)


def test_a_service_that_is_closed_while_calls_run(run: Run, ns: Namespace) -> None:
    """They are ended first."""

    async def main() -> None:
        with Service.create(ns.name()) as service:
            begun, go = anyio.Event(), anyio.Event()

            async def hold() -> int:
                begun.set()
                await go.wait()
                return 5

            hold.__annotations__["return"] = int
            service.method(hold)
            ended = anyio.Event()

            async def serve() -> None:
                await aio.serve(service)
                ended.set()

            results: list[int] = []

            async def call() -> None:
                results.append(await client.call("hold", timeout=60))

            async with (
                aio.wrap(Client.open(service.name)) as client,
                anyio.create_task_group() as group,
            ):
                group.start_soon(serve)
                group.start_soon(call)
                await begun.wait()
                service.close()
                await anyio.lowlevel.checkpoint()
                assert not ended.is_set()
                go.set()
                await ended.wait()
            assert results == [5]
            with pytest.raises(ClosedHandle):
                await aio.serve(service)

    run(main)


def test_serve_that_is_cancelled(run: Run, ns: Namespace) -> None:
    gate = AsyncGate()

    async def main() -> None:
        with Service.create(ns.name()) as service, Client.open(service.name) as client:
            service.method(gate.sleep_until_cancelled)

            def submit() -> Future[Any]:
                future = client.submit("sleep_until_cancelled", timeout=60)
                gate.begun.get(timeout=60)
                return future

            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(aio.serve, service)
                    future = await anyio.to_thread.run_sync(submit)
                    scope.cancel()
            assert gate.ended.get(timeout=60) is False
            service.close()
            with pytest.raises((PeerGone, RemoteError)):
                future.result(60)

    run(main)


def test_current_in_each_kind_of_method(run: Run, ns: Namespace) -> None:
    def name_here() -> str:
        return current().method

    async def name_later() -> str:
        await anyio.lowlevel.checkpoint()
        return current().method

    async def main() -> None:
        async with served(ns, name_here, name_later) as client:
            for name in ("name_here", "name_later"):
                assert await client.call(name, timeout=60) == name
            with pytest.raises(RuntimeError, match="no method"):
                current()

    run(main)


def test_a_coroutine_function_needs_an_event_loop(serve: Serve) -> None:
    name = serve(add_later, count_later, add)
    with Client.open(name) as client:
        for method in ("add_later", "count_later"):
            with pytest.raises(RemoteError, match=f"{method} needs an event loop.*aio.serve"):
                list(client.call(method, 1, timeout=60))
        assert client.call("add", 1, timeout=60) == 2
