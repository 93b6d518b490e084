"""Peers that write and read in place: iceoryx2, and shared memory by hand."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import shutil
import tempfile
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channel.lane import Lane, depth, fresh_name

if TYPE_CHECKING:
    from collections.abc import Callable

# Imports are late, because any peer may be missing.
# ruff: noqa: PLC0415


class Iceoryx2(Lane):
    """iceoryx2: the sender writes into a loaned sample, the receiver reads it; both sides poll."""

    name = "iceoryx2, polling"
    module = package = "iceoryx2"
    in_place = True

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._name = fresh_name()
        self._root = Path(tempfile.gettempdir()) / self._name
        self._kept: list[Any] = []

    def _node(self) -> Any:
        import iceoryx2

        iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
        # Its own prefix and root, so that the files of a killed process can be found.
        config = iceoryx2.config.default()
        config.global_cfg.prefix = iceoryx2.FileName.new(f"{self._name}_")
        config.global_cfg.root_path = iceoryx2.Path.new(str(self._root))
        node = iceoryx2.NodeBuilder.new().config(config).create(iceoryx2.ServiceType.Ipc)
        self._kept.append(node)
        return node

    def _service(self, node: Any) -> Any:
        import iceoryx2

        name = iceoryx2.ServiceName.new(self._name)
        builder = node.service_builder(name).publish_subscribe(iceoryx2.Slice[ctypes.c_uint8])
        return (
            builder.subscriber_max_buffer_size(min(depth(self.size), 1024))
            .subscriber_max_borrowed_samples(2)
            .enable_safe_overflow(False)  # noqa: FBT003 - the peer's signature
            .max_publishers(1)
            .max_subscribers(self.subscribers)
            .open_or_create()
        )

    def _publisher(self, node: Any) -> Any:
        import iceoryx2

        publisher = (
            self._service(node)
            .publisher_builder()
            .initial_max_slice_len(self.size)
            .backpressure_strategy(iceoryx2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        self._kept.append(publisher)
        return publisher

    def _subscriber(self, node: Any) -> Any:
        subscriber = self._service(node).subscriber_builder().create()
        self._kept.append(subscriber)
        return subscriber

    def sender(self) -> Callable[[Any], object]:
        """Return a function that takes a loan, copies the message in, and sends it."""
        loan = self._publisher(self._node()).loan_slice_uninit
        size = self.size
        move = ctypes.memmove  # accepts bytes and ctypes arrays

        def send(message: Any) -> None:
            sample = loan(size)
            move(sample.payload_ptr, message, size)
            sample.assume_init().send()

        return send

    def receiver(self) -> Callable[[], Any]:
        """Return a function that polls for a sample, and keeps it until the next call."""
        receive = self._subscriber(self._node()).receive
        array = ctypes.c_ubyte * self.size
        held: Any = None

        def wait() -> Any:
            nonlocal held
            held = None
            while (sample := receive()) is None:
                pass
            held = sample
            return array.from_address(sample.payload_ptr)

        return wait

    def leave(self) -> None:
        """Delete ports before services before nodes, because leftovers keep files in /dev/shm."""
        while self._kept:
            self._kept.pop()
        gc.collect()

    def close(self) -> None:
        """Remove the files of its root and prefix."""
        shutil.rmtree(self._root, ignore_errors=True)
        for file in Path("/dev/shm").glob(f"{self._name}_*"):  # noqa: S108 - shm_open(3) is there
            file.unlink(missing_ok=True)


class Iceoryx2Blocking(Iceoryx2):
    """iceoryx2 with an event service, so that a receiver sleeps until it is notified."""

    name = "iceoryx2, blocking"

    def _event(self, node: Any) -> Any:
        import iceoryx2

        name = iceoryx2.ServiceName.new(f"{self._name}-event")
        return node.service_builder(name).event().open_or_create()

    def sender(self) -> Callable[[Any], object]:
        """Return a function that sends and notifies."""
        send = super().sender()
        notifier = self._event(self._kept[0]).notifier_builder().create()
        self._kept.append(notifier)
        notify = notifier.notify

        def send_and_notify(message: Any) -> None:
            send(message)
            notify()

        return send_and_notify

    def receiver(self) -> Callable[[], Any]:
        """Return a function that checks for a sample, and sleeps if there is none."""
        node = self._node()
        receive = self._subscriber(node).receive
        listener = self._event(node).listener_builder().create()
        self._kept.append(listener)
        sleep = listener.blocking_wait
        array = ctypes.c_ubyte * self.size
        held: Any = None

        def wait() -> Any:
            nonlocal held
            held = None
            while (sample := receive()) is None:
                sleep()
            held = sample
            return array.from_address(sample.payload_ptr)

        return wait


class Slots(Lane):
    """Two slots in a multiprocessing.SharedMemory, each with a flag that both sides poll.

    Only the processor orders the flag's store after the message's, so this is correct only on x86.
    """

    name = "SharedMemory slots by hand"
    in_place = True
    _SLOTS = 2
    _LINE = 64

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._stride = -(-size // 4096) * 4096
        self._memory = SharedMemory(create=True, size=4096 + self._SLOTS * self._stride)

    def _views(self) -> tuple[memoryview, list[memoryview]]:
        whole = self._memory.buf
        flags = whole[: self._SLOTS * self._LINE : self._LINE]
        starts = [4096 + slot * self._stride for slot in range(self._SLOTS)]
        return flags, [whole[start : start + self.size] for start in starts]

    def sender(self) -> Callable[[Any], object]:
        """Return a function that waits for a free slot, fills it, and sets the flag."""
        flags, slots = self._views()
        turn = 0

        def send(message: Any) -> None:
            nonlocal turn
            while flags[turn]:
                pass
            slots[turn][:] = message
            flags[turn] = 1
            turn ^= 1

        return send

    def receiver(self) -> Callable[[], memoryview]:
        """Return a function that frees the last slot, and waits for the other slot's flag."""
        flags, slots = self._views()
        turn = 0
        held = False

        def receive() -> memoryview:
            nonlocal turn, held
            if held:
                flags[turn ^ 1] = 0
            while not flags[turn]:
                pass
            held = True
            turn ^= 1
            return slots[turn ^ 1]

        return receive

    def close(self) -> None:
        """Remove the memory."""
        self._memory.close()
        self._memory.unlink()


class SlotsWithSemaphores(Slots):
    """The same slots, with semaphores that count the free and the filled ones."""

    name = "slots and semaphores"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        context = multiprocessing.get_context("spawn")
        self._free = context.Semaphore(self._SLOTS)
        self._filled = context.Semaphore(0)

    def sender(self) -> Callable[[Any], object]:
        """Return a function that waits for a free slot, fills it, and counts it."""
        _, slots = self._views()
        acquire, release = self._free.acquire, self._filled.release
        turn = 0

        def send(message: Any) -> None:
            nonlocal turn
            acquire()
            slots[turn][:] = message
            release()
            turn ^= 1

        return send

    def receiver(self) -> Callable[[], memoryview]:
        """Return a function that frees the last slot, and waits for the other slot."""
        _, slots = self._views()
        acquire, release = self._filled.acquire, self._free.release
        turn = 0
        held = False

        def receive() -> memoryview:
            nonlocal turn, held
            if held:
                release()
            acquire()
            held = True
            turn ^= 1
            return slots[turn ^ 1]

        return receive


LANES: tuple[type[Lane], ...] = (Iceoryx2, Iceoryx2Blocking, Slots)
