"""Peers that are written and read in place: iceoryx2, and shared memory by hand."""

from __future__ import annotations

import ctypes
import gc
import shutil
import tempfile
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channel.lane import Lane, depth, fresh_name

if TYPE_CHECKING:
    from collections.abc import Callable

# Peers are imported where they are used, since any of them may be missing.
# ruff: noqa: PLC0415


class Iceoryx2(Lane):
    """iceoryx2: a loaned sample is written and sent, a received one read; both sides poll."""

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
        # A prefix and a root of its own, so that what a killed process leaves can be found.
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
            .enable_safe_overflow(False)  # noqa: FBT003 - its signature
            .max_publishers(1)
            .max_subscribers(1)
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
        """Loan, copy the message in, send."""
        loan = self._publisher(self._node()).loan_slice_uninit
        size = self.size
        move = ctypes.memmove  # takes bytes, and arrays of ctypes

        def send(message: Any) -> None:
            sample = loan(size)
            move(sample.payload_ptr, message, size)
            sample.assume_init().send()

        return send

    def receiver(self) -> Callable[[], Any]:
        """Ask until there is a sample; it is kept until the next one."""
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
        """Ports before services before nodes: what is left has files in /dev/shm."""
        while self._kept:
            self._kept.pop()
        gc.collect()

    def close(self) -> None:
        """Remove the files of its root and prefix."""
        shutil.rmtree(self._root, ignore_errors=True)
        for file in Path("/dev/shm").glob(f"{self._name}_*"):  # noqa: S108 - shm_open(3) is there
            file.unlink(missing_ok=True)


class Iceoryx2Blocking(Iceoryx2):
    """iceoryx2 with an event service beside it, so that a receiver sleeps until it is notified."""

    name = "iceoryx2, blocking"

    def _event(self, node: Any) -> Any:
        import iceoryx2

        name = iceoryx2.ServiceName.new(f"{self._name}-event")
        return node.service_builder(name).event().open_or_create()

    def sender(self) -> Callable[[Any], object]:
        """Send, and notify."""
        send = super().sender()
        notifier = self._event(self._kept[0]).notifier_builder().create()
        self._kept.append(notifier)
        notify = notifier.notify

        def send_and_notify(message: Any) -> None:
            send(message)
            notify()

        return send_and_notify

    def receiver(self) -> Callable[[], Any]:
        """Look, and sleep where there is nothing."""
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
    """Two slots in a multiprocessing.SharedMemory, each with a flag that both sides watch.

    Nothing orders the flag's store after the message's but the processor: this is for x86.
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
        """Wait until the slot is free, copy the message in, raise the flag."""
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
        """Free the slot that was read last, and wait for the other's flag."""
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


LANES: tuple[type[Lane], ...] = (Iceoryx2, Iceoryx2Blocking, Slots)
