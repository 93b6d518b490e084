"""Create the bridge for an address and a URL: of a channel or topic, over NATS or zenoh."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from ipckit._bridge.channel_receive import ChannelReceiver
from ipckit._bridge.channel_send import ChannelSender
from ipckit._bridge.topic_receive import TopicReceiver
from ipckit._bridge.topic_send import TopicSender
from ipckit._bridge.url import parse_url
from ipckit._core.descriptors import Descriptor
from ipckit.channel import Channel
from ipckit.codec import RawCodec
from ipckit.errors import InvalidArgument
from ipckit.topic import Topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._bridge.link import Link
    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.payload_type import PayloadType
    from ipckit._bridge.topic_wire import Status

    Object = str | Channel[Any] | Topic[Any]


def sender_of(
    source: Object, url: str, options: BridgeOptions, report: Callable[[str], None]
) -> Link:
    """Return the link that sends the messages of `source`; see `ipckit.bridge.forward`."""
    target = parse_url(url)
    kind, name = _kind_and_name(source)
    if kind == "topic":
        topic = _topic_of(source, name)
        try:
            return TopicSender(topic, f"{kind}:{name}", target, options, report)
        except BaseException:
            topic.close()
            raise
    if target.scheme == "zenoh":
        raise _no_channel()
    if isinstance(source, str):
        channel = Channel.open(name, RawCodec(), peer_gone="wait")
    else:
        channel = Channel.from_fd(_duplicate(source), RawCodec(), peer_gone="wait")
    try:
        return ChannelSender(channel, f"{kind}:{name}", target, options, report)
    except BaseException:
        channel.close()
        raise


def receiver_of(
    url: str, target: Object, options: BridgeOptions, report: Callable[[str], None]
) -> Link:
    """Return the link that sends messages into `target`; see `ipckit.bridge.receive`."""
    source = parse_url(url)
    kind, name = _kind_and_name(target)
    # Duplicate it now, because the caller may close the handle before the bridge is connected.
    memory = None if isinstance(target, str) else Descriptor(_duplicate(target))
    if kind == "topic":

        def open_topic(status: Status) -> Topic[bytes]:
            if memory is None:
                return _made_topic(name, status, options)
            return Topic.from_fd(os.dup(memory.number), RawCodec(), peer_gone="wait")

        receiver: Link = TopicReceiver(open_topic, f"{kind}:{name}", source, options, report)
        receiver.memory = memory
        return receiver
    if source.scheme == "zenoh":
        raise _no_channel()

    def open_channel(payload: PayloadType) -> Channel[bytes]:
        if memory is None:
            return Channel.open_or_create(
                name, payload.codec, capacity=options.capacity, peer_gone="wait"
            )
        return Channel.from_fd(os.dup(memory.number), RawCodec(), peer_gone="wait")

    receiver = ChannelReceiver(open_channel, f"{kind}:{name}", source, options, report)
    receiver.memory = memory
    return receiver


def _kind_and_name(given: Object) -> tuple[str, str]:
    """Return the kind and the name of a channel or topic; the name of an anonymous one is ""."""
    if isinstance(given, Channel):
        return "channel", str(given.name or "").removeprefix("/")
    if isinstance(given, Topic):
        return "topic", str(given.name or "").removeprefix("/")
    kind, colon, name = given.partition(":")
    if not colon or kind not in {"channel", "topic"} or not name:
        message = f"the address must be channel:NAME or topic:NAME, not {given!r}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="bridge")
    return kind, name


def check_ends(address: str, url: str) -> None:
    """Check the two ends of a bridge without opening them.

    Raises:
        InvalidArgument: the address or the URL is invalid, or the URL of a channel is zenoh's.
    """
    scheme = parse_url(url).scheme
    if _kind_and_name(address)[0] == "channel" and scheme == "zenoh":
        raise _no_channel()


def _duplicate(handle: Channel[Any] | Topic[Any]) -> int:
    return os.dup(handle.memory_fd)


def _topic_of(given: Object, name: str) -> Topic[bytes]:
    """Open a topic so that its messages are bytes."""
    if isinstance(given, str):
        return Topic.open(name, RawCodec(), peer_gone="wait")
    return Topic.from_fd(_duplicate(given), RawCodec(), peer_gone="wait")


def _made_topic(name: str, status: Status, options: BridgeOptions) -> Topic[bytes]:
    """Open a topic, or create it with the capacity, history and size of the one on the other side.

    Raises:
        LayoutMismatch: the topic exists, and its messages are of another type.
    """
    capacity = options.capacity or status.capacity
    same = capacity == status.capacity and not status.type.size
    made = Topic.open_or_create(
        name,
        status.type.codec,
        capacity=capacity,
        history=min(capacity, status.history),
        size=status.size if same else None,
    )
    try:  # open it again without the codec, because the native code is faster then
        return Topic.from_fd(_duplicate(made), RawCodec(), peer_gone="wait")
    finally:
        made.close()


def _no_channel() -> InvalidArgument:
    message = "zenoh keeps no messages, so a channel could lose some"
    hint = "use nats:// for a channel"
    return InvalidArgument(message, errno=errno.EINVAL, op="bridge", hint=hint)
