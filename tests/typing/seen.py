"""What type checkers make of structs, codecs and queues; test_seen.py compares it."""

import ctypes
from enum import IntEnum
from typing import Annotated, Any, assert_type

import msgspec
import numpy as np
from numpy.typing import NDArray

from ipckit import (
    Channel,
    Counter,
    Delivery,
    Descriptors,
    Framed,
    Loan,
    Message,
    PosixMessageQueue,
    PosixSemaphore,
    ProcessQueue,
    SharedArray,
    SysVMessageQueue,
    SysVSemaphoreSet,
    Topic,
    UnixListener,
    UnixSocket,
    View,
    aio,
)
from ipckit import Packet as UnixPacket
from ipckit.codec import AnyShape, Codec, Pickle, codec_for
from ipckit.rpc import Service
from ipckit.structs import (
    Aligned,
    Anonymous,
    Array,
    At,
    Bits,
    Bool,
    Bytes,
    Char,
    Double,
    FieldInfo,
    Float,
    Int,
    Opaque,
    Struct,
    UInt,
    UInt8,
    Union,
)
from ipckit.topic import Subscription, TopicPublisher, TopicSubscriber


class Stu(Struct):
    name: Char[32]
    age: Int


class Point(Struct, packed=True, endian="big"):
    x: Double
    y: Double = 0.0
    on: Bool = True


class Frame(Struct):
    at: Point
    mac: Bytes[6]
    grid: Array[Int, 2, 3]
    exact: Annotated[NDArray[np.int32], Array[Int, 4]]
    label: Annotated[str, Char[8]] = "none"


class Color(IntEnum):
    RED = 1


class Number(Union):
    i: Int
    f: Float


class Wide(Struct, packed=4, align=16, size=64):
    kind: Bits[UInt, 3]
    color: Bits[Color, 2]
    whole: Color
    narrow: Annotated[Color, UInt8]
    line: Aligned[Int, 16]
    text: Aligned[Char[8], 16]
    odd: At[Double, 45]
    pointer: Opaque[8]
    named: Annotated[bytes, Opaque[8, 8, "void *"]]
    number: Number
    _: Anonymous[Number]
    rest: Array[Int, ...]


class Packet(msgspec.Struct):
    n: int


class Header(ctypes.Structure):
    pass


stu = Stu("amy", 20)
Stu(name="amy", age=20)
assert_type(stu.name, str)
assert_type(stu.age, int)
assert_type(Point(1.0).x, float)
assert_type(Point(1.0).on, bool)
assert_type(Stu.size, int)
assert_type(Stu.fields, tuple[FieldInfo, ...])
assert_type(Stu.dtype, np.dtype[Any])
assert_type(Stu.fingerprint, str)
assert_type(Stu.from_bytes(b""), Stu)
assert_type(Stu.from_buffer(bytearray(36), 0), Stu)
assert_type(Stu.zeroed(), Stu)
assert_type(stu.copy(), Stu)
stu.name = "bob"
stu.age = 21
assert_type(bytes(stu), bytes)
assert_type(memoryview(stu), memoryview)


def frame_fields(frame: Frame) -> None:
    assert_type(frame.at, Point)
    assert_type(frame.mac, bytes)
    assert_type(frame.grid, Any)
    assert_type(frame.exact, NDArray[np.int32])
    assert_type(frame.label, str)


def wide_fields(wide: Wide) -> None:
    assert_type(wide.kind, int)
    assert_type(wide.color, int)
    assert_type(wide.whole, Color)
    assert_type(wide.narrow, Color)
    assert_type(wide.pointer, bytes)
    assert_type(wide.named, bytes)
    assert_type(wide.number, Number)
    assert_type(wide.number.f, float)
    assert_type(wide.rest, Any)
    wide.kind = 3
    wide.line = 3
    wide.text = "amy"
    wide.pointer = b""


assert_type(codec_for(bytes), Codec[bytes])
assert_type(codec_for(str), Codec[str])
assert_type(codec_for(Stu), Codec[Stu])
assert_type(codec_for(Stu).decode(b""), Stu)
assert_type(codec_for(Header), Codec[Header])
assert_type(codec_for(Packet), Codec[Packet])
assert_type(codec_for(np.dtype(np.int32)), Codec[NDArray[np.int32]])
assert_type(codec_for(np.float64), Codec[NDArray[np.float64]])
assert_type(codec_for(Pickle), Codec[Any])
assert_type(codec_for(codec_for(Stu)), Codec[Stu])


def queues(fd: int) -> None:
    assert_type(SysVMessageQueue.create(), SysVMessageQueue[bytes])
    assert_type(SysVMessageQueue.create(1234, mode=0o666), SysVMessageQueue[bytes])
    assert_type(SysVMessageQueue.create(type=Stu), SysVMessageQueue[Stu])
    assert_type(SysVMessageQueue.open(1234, str), SysVMessageQueue[str])
    assert_type(SysVMessageQueue.open_or_create(1234, Packet), SysVMessageQueue[Packet])
    assert_type(SysVMessageQueue.from_id(7, codec_for(Stu)), SysVMessageQueue[Stu])
    assert_type(SysVMessageQueue.open(1, np.dtype("i4")), SysVMessageQueue[NDArray[Any]])
    assert_type(SysVMessageQueue.open(1234, Stu).receive(), Message[Stu])
    assert_type(SysVMessageQueue.open(1234, Stu).receive(-3, timeout=1.5).value, Stu)
    assert_type(SysVMessageQueue.open(1234, Stu).drain(), list[Message[Stu]])
    assert_type(SysVMessageQueue.open(1234).peek().mtype, int)
    for message in SysVMessageQueue.open(1234, Stu):
        assert_type(message.truncated, bool)
    with SysVMessageQueue.create(1234, Stu) as queue:
        assert_type(queue, SysVMessageQueue[Stu])
    assert_type(PosixMessageQueue.create("/notes"), PosixMessageQueue[bytes])
    assert_type(PosixMessageQueue.open("/notes", Stu, readonly=True), PosixMessageQueue[Stu])
    assert_type(PosixMessageQueue.from_fd(fd, str).receive().value, str)
    assert_type(PosixMessageQueue.from_fd(fd, Stu).receive().priority, int)


def channels(fd: int) -> None:
    assert_type(Channel.create(), Channel[bytes])
    assert_type(Channel.create("x", Stu), Channel[Stu])
    assert_type(Channel.create(type=Stu, capacity=5), Channel[Stu])
    assert_type(Channel.open("x", str), Channel[str])
    assert_type(Channel.open("x", np.dtype("i4")), Channel[NDArray[Any]])
    assert_type(Channel.open_or_create("x", Packet, overwrite=True), Channel[Packet])
    assert_type(Channel.anonymous(codec_for(Stu), peer_gone="wait"), Channel[Stu])
    assert_type(Channel.from_fd(fd, Header), Channel[Header])
    assert_type(Channel.open("x", Stu).receive(), Stu)
    assert_type(Channel.open("x").receive(timeout=1.5), bytes)
    for value in Channel.open("x", Stu):
        assert_type(value, Stu)
    with Channel.create("x", Stu) as channel:
        assert_type(channel, Channel[Stu])
        channel.send(Stu("amy", 20), timeout=0)
        channel.send_many([Stu("amy", 20)])
        channel.send_many(np.zeros(3, Stu.dtype))
        assert_type(channel.loan(), Loan)
        assert_type(channel.receive_view().array, NDArray[Any])
        assert_type(channel.receive_view(), View)
        assert_type(channel.take(timeout=1.5), Delivery)
        assert_type(channel.take().redelivered, int)
    assert_type(ProcessQueue[int](5).get(), int)
    assert_type(ProcessQueue[int]().get_many(3), list[int])
    queue = ProcessQueue[str]()
    queue.put("text")
    queue.put_many(["text"], timeout=1.5)
    queue.task_done()
    queue.join(timeout=1.5)
    assert_type(queue.fileno(), int)


def topics(fd: int) -> None:
    assert_type(Topic.create(), Topic[bytes])
    assert_type(Topic.create("x", Stu, history=3), Topic[Stu])
    assert_type(Topic.open("x", np.dtype("i4")), Topic[NDArray[Any]])
    assert_type(Topic.open_or_create("x", Packet, history=2), Topic[Packet])
    assert_type(Topic.anonymous(codec_for(Stu), peer_gone="wait"), Topic[Stu])
    assert_type(Topic.from_fd(fd, Header), Topic[Header])
    with Topic.create("x", Stu) as topic:
        assert_type(topic, Topic[Stu])
        topic.publish(Stu("amy", 20), timeout=0)
        topic.publish_many([Stu("amy", 20)])
        topic.publish_many(np.zeros(3, Stu.dtype))
        assert_type(topic.loan(), Loan)
        assert_type(topic.subscribers(), list[TopicSubscriber])
        assert_type(topic.publishers(), list[TopicPublisher])
        with topic.subscribe(when_full="drop_oldest", depth=1) as students:
            assert_type(students, Subscription[Stu])
            assert_type(students.receive(timeout=1.5), Stu)
            assert_type(students.receive_view(), View)
            assert_type(students.lost, int)
            for student in students:
                assert_type(student, Stu)


def shared_arrays(source: NDArray[np.float32]) -> None:
    assert_type(SharedArray.create(3, np.float64), SharedArray[np.float64])
    assert_type(SharedArray.create((2, 3), np.dtype(np.int16)), SharedArray[np.int16])
    assert_type(SharedArray.create([2, 3], Stu, name="x", order="F"), SharedArray[np.void])
    assert_type(SharedArray.create(3, "<f8"), SharedArray[Any])
    assert_type(SharedArray.from_array(source), SharedArray[np.float32])
    assert_type(SharedArray.from_array([1, 2]), SharedArray[Any])
    assert_type(SharedArray.open("x", readonly=True), SharedArray[Any])
    with SharedArray.create(3, np.float64) as shared:
        assert_type(shared.array, NDArray[np.float64])
        assert_type(np.asarray(shared), NDArray[Any])
        assert_type(shared.shape, tuple[int, ...])
        counter = Counter.view(shared.array[1:2])
    with Counter.create("x", value=3) as counter:
        assert_type(counter, Counter)
        assert_type(counter.add(), int)
        assert_type(counter.add(5), int)
        assert_type(counter.compare_exchange(1, 2), bool)
        assert_type(counter.value, int)
        counter.value = 3
    assert_type(Counter.open_or_create("x"), Counter)


async def topic_faces(topic: Topic[Stu]) -> None:
    assert_type(aio.wrap(topic), aio.TopicFace[Stu])
    await aio.wrap(topic).publish(Stu("amy", 20), timeout=1)
    async with aio.wrap(topic.subscribe()) as students:
        assert_type(students, aio.SubscriptionFace[Stu])
        assert_type(students.handle, Subscription[Stu])
        assert_type(await students.receive(), Stu)
        async for student in students:
            assert_type(student, Stu)


async def faces(fd: int, framed: Framed) -> None:
    assert_type(aio.wrap(SysVMessageQueue.open(1234)), aio.SysVQueue[bytes])
    assert_type(aio.wrap(SysVMessageQueue.open(1234, Stu)), aio.SysVQueue[Stu])
    assert_type(await aio.wrap(SysVMessageQueue.open(1234, Stu)).receive(-3), Message[Stu])
    assert_type(aio.wrap(SysVMessageQueue.open(1234, Stu)).handle, SysVMessageQueue[Stu])
    async with aio.wrap(SysVMessageQueue.create(1234, Stu)) as queue:
        assert_type(queue, aio.SysVQueue[Stu])
        await queue.send(Stu("amy", 20), 3, timeout=1)
        async for message in queue:
            assert_type(message.value, Stu)
    posix = aio.wrap(PosixMessageQueue.open("/notes", Stu))
    assert_type((await posix.receive(timeout=1.5)).value, Stu)
    assert_type(await aio.wrap(PosixMessageQueue.open("/notes")).receive(), Message[bytes])
    async for message in posix:
        assert_type(message, Message[Stu])
    async with aio.wrap(SysVSemaphoreSet.open(1234)) as group, group[0] as semaphore:
        assert_type(group, aio.SemaphoreSet)
        assert_type(semaphore, aio.SysVSemaphore)
    assert_type(aio.wrap(SysVSemaphoreSet.open(1234)[0]), aio.SysVSemaphore)
    assert_type(aio.wrap(PosixSemaphore.open("/gate")), aio.NamedSemaphore)
    async for client in aio.wrap(UnixListener.from_fd(fd)):
        assert_type(client, aio.Socket)
        assert_type(await client.receive(max_fds=1), UnixPacket)
        assert_type(await client.receive_handle(UnixSocket), UnixSocket)
    assert_type(await aio.wrap(framed).receive(), bytes)


async def echo(socket: aio.Socket) -> None:
    async for packet in socket:
        assert_type(packet, UnixPacket)
        await socket.send(packet.data)


async def served(service: Service, listener: UnixListener) -> None:
    assert_type(await aio.serve(service, limit=5), None)
    assert_type(await aio.serve("echo.sock", echo, mode=0o660, seqpacket=True), None)
    assert_type(await aio.serve(listener, echo), None)


def removed(sock: UnixSocket) -> None:
    assert_type(SysVMessageQueue.remove(1234), None)
    assert_type(Channel.remove("people", missing_ok=True), None)
    assert_type([packet.fds for packet in sock], list[Descriptors])
    shaped = Channel.create("shaped", AnyShape(np.dtype(np.float64)))
    assert_type(shaped.receive(), NDArray[Any])
