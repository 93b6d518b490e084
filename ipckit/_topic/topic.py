"""Topic: messages in shared memory that go to every subscriber."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Generic, Unpack, overload

import ipckit._native as native
from ipckit._channel.batches import send_all
from ipckit._channel.memory import NewMemory
from ipckit._channel.memory_handle import MemoryHandle
from ipckit._channel.names import checked_name
from ipckit._channel.options import SPIN, check_options
from ipckit._core.construct import construct
from ipckit._core.handle import Capabilities
from ipckit._core.making import PATIENCE
from ipckit._core.public import public
from ipckit._core.trust import Trust
from ipckit._payload.codecs import codec_for
from ipckit._payload.types import BYTES, T, V
from ipckit._topic.explain import no_room
from ipckit._topic.facts import TopicStats, publisher_of, subscriber_of
from ipckit._topic.kind import TOPIC
from ipckit._topic.options import check_full_policy, checked_number
from ipckit._topic.shape import checked_history, shape_for
from ipckit._topic.subscription import Subscription
from ipckit.errors import IpcError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from ipckit._channel.in_place import Loan
    from ipckit._channel.options import HandleOptions, OpenOptions, PeerGonePolicy
    from ipckit._payload.codec import Codec
    from ipckit._payload.types import PayloadType
    from ipckit._topic.facts import FullPolicy, TopicPublisher, TopicSubscriber
    from ipckit._topic.options import AnonymousOptions, CreateOptions, OpenOrCreateOptions


@public("ipckit.topic")
class Topic(native.TopicBase, MemoryHandle[T], Generic[T]):
    """Messages in shared memory that go to every subscriber.

    A publisher writes a message once, whatever the number of subscribers; up to 64 subscribe at
    the same time. All of them receive the messages of all publishers in the same order. Publishing
    and receiving make no system call unless a process sleeps or polls. A process can be killed at
    any moment without blocking the others, and a message arrives whole or not at all.

    Create or open a topic with `create`, `open`, `open_or_create`, `anonymous` or `from_fd`, and
    receive its messages with `subscribe`. A named topic is the file ``ipckit-topic.NAME`` in
    /dev/shm. A process with write access can corrupt messages, but it cannot crash a reader, unless
    it truncates the file. A value that ipckit never writes raises `Corrupt`.

    >>> from ipckit import Topic
    >>> with Topic.anonymous(str) as topic, topic.subscribe() as messages:
    ...     topic.publish("hello", timeout=1)
    ...     messages.receive(timeout=1)
    'hello'
    """

    _factories = "Topic.create, open, open_or_create, anonymous or from_fd"
    _passed_as = "Topic"
    _kind = TOPIC

    caps = Capabilities(
        pollable=True,
        timed=True,
        priorities=False,
        typed_receive=False,
        unlink_destroys_now=False,
    )

    # -- create and open ---------------------------------------------------------------------------

    @overload
    @classmethod
    def create(
        cls, name: str | None, type: np.dtype[Any], **options: Unpack[CreateOptions]
    ) -> Topic[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def create(
        cls, name: str | None = ..., type: PayloadType[V] = ..., **options: Unpack[CreateOptions]
    ) -> Topic[V]: ...
    @classmethod
    def create(
        cls,
        name: str | None = None,
        type: Any = BYTES,
        *,
        capacity: int | None = None,
        history: int = 0,
        size: int | None = None,
        mode: int = 0o600,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
    ) -> Topic[Any]:
        """Create a topic. The handle owns it: leaving ``with`` unlinks the topic.

        Args:
            name: the topic's name, such as ``"frames"``, up to 242 bytes; by default a random
                unused name.
            type: the type of the messages: `bytes`, `str`, a `Struct`, a ctypes structure, a numpy
                dtype, a msgspec struct or a `Codec`.
            capacity: the maximum number of unread messages of a subscriber, 1 to 8388607. The
                default is 1024, or fewer if that many messages of a fixed-size type would need more
                than 64 MiB, or more than `size` if they are longer than 4 KiB; at least 1.
            history: the number of old messages that a new subscriber can receive, 0 (default) to
                `capacity`.
            size: bytes of memory for messages. The default is what `capacity` messages of a
                fixed-size type need, and some more. For other types it is 16 MiB for messages of
                more than 4 KiB; there is additional memory for shorter ones. Of such a type, one
                message can take up to half of `size`.
            mode: permission bits, 0 to 0o777. The umask does not apply. Subscribers too need the
                permission to write.
            peer_gone: what a subscription does if it waits for a message and the last publisher is
                gone: "raise" `PeerGone`, or "wait" for a new publisher.
            spin: the maximum number of checks before a call sleeps, 0 to 1000000. ipckit uses fewer
                if spinning does not help.

        Raises:
            AlreadyExists: there is a topic of that name.
            LimitReached: /dev/shm is full, or RLIMIT_NOFILE is reached.
            NotFound: the system has no /dev/shm.
            AccessDenied: this process has no permission to write to /dev/shm.
            InvalidArgument: an argument is out of range.
            TypeError: `type` is not a payload type.

        >>> from ipckit import Topic
        >>> with Topic.create(history=1) as topic:  # a random name
        ...     topic.publish(b"hello")
        ...     with Topic.open(topic.name) as other:  # usually in another process
        ...         with other.subscribe() as messages:
        ...             print(messages.receive())
        b'hello'
        """
        check_options(peer_gone, spin)
        new = _new_memory(codec_for(type), capacity, history, size)
        return cls._create(name, type, new, mode=mode, peer_gone=peer_gone, spin=spin)

    @overload
    @classmethod
    def open(
        cls, name: str, type: np.dtype[Any], **options: Unpack[OpenOptions]
    ) -> Topic[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open(
        cls, name: str, type: PayloadType[V] = ..., **options: Unpack[OpenOptions]
    ) -> Topic[V]: ...
    @classmethod
    def open(
        cls,
        name: str,
        type: Any = BYTES,
        *,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
        owner_uid: int | None = None,
    ) -> Topic[Any]:
        """Open an existing topic. The handle does not own it.

        Args:
            name: the topic's name.
            type: the type of the messages, the same that the creator passed.
            peer_gone: see `create`; applies to this handle's subscriptions.
            spin: see `create`; applies to this handle and its subscriptions.
            owner_uid: another user whose topic is accepted. By default the topic must belong to
                this process's effective user or to root.

        Raises:
            NotFound: there is no topic of that name.
            LayoutMismatch: the messages are of another type; the error shows both types.
            AccessDenied: the mode does not allow both reading and writing, or the topic belongs to
                a user who is not accepted and could have put anything into it.
            Corrupt: the file of that name is not a topic.
            LimitReached: RLIMIT_NOFILE is reached, or the topic has 256 peers already: open
                handles and subscriptions.
            InvalidArgument: an argument is out of range.
        """
        check_options(peer_gone, spin)
        trust, wanted = Trust(owner_uid), checked_name(TOPIC, name)
        return cls._open(wanted, type, trust, peer_gone=peer_gone, spin=spin, owner_uid=owner_uid)

    @overload
    @classmethod
    def open_or_create(
        cls, name: str, type: np.dtype[Any], **options: Unpack[OpenOrCreateOptions]
    ) -> Topic[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open_or_create(
        cls, name: str, type: PayloadType[V] = ..., **options: Unpack[OpenOrCreateOptions]
    ) -> Topic[V]: ...
    @classmethod
    def open_or_create(
        cls,
        name: str,
        type: Any = BYTES,
        *,
        capacity: int | None = None,
        history: int = 0,
        size: int | None = None,
        mode: int = 0o600,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Topic[Any]:
        """Open a topic, or create it. The handle owns the topic only if it created it.

        Args:
            name: the topic's name.
            type: the type of the messages.
            capacity: see `create`; ignored if the topic exists.
            history: see `create`; ignored if the topic exists.
            size: see `create`; ignored if the topic exists.
            mode: see `create`. An existing topic must not give other users more permissions.
            peer_gone: see `create`.
            spin: see `create`.
            timeout: seconds to keep trying while other processes create and unlink the topic.
            owner_uid: see `open`.

        Raises:
            Timeout: other processes created and unlinked the topic until the deadline.
            AccessDenied: as for `open`; or the existing topic gives other users more permissions
                than `mode`.
            IpcError: as for `create` and `open`.

        >>> from ipckit import Topic
        >>> with Topic.open_or_create("doc-example", str) as topic:
        ...     topic.owner
        True
        """
        check_options(peer_gone, spin)
        new = _new_memory(codec_for(type), capacity, history, size)
        options: HandleOptions = {"peer_gone": peer_gone, "spin": spin}
        return cls._open_or_create(
            name, type, new, mode=mode, timeout=timeout, owner_uid=owner_uid, **options
        )

    @overload
    @classmethod
    def anonymous(
        cls, type: np.dtype[Any], **options: Unpack[AnonymousOptions]
    ) -> Topic[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def anonymous(
        cls, type: PayloadType[V] = ..., **options: Unpack[AnonymousOptions]
    ) -> Topic[V]: ...
    @classmethod
    def anonymous(
        cls,
        type: Any = BYTES,
        *,
        capacity: int | None = None,
        history: int = 0,
        size: int | None = None,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
    ) -> Topic[Any]:
        """Create a topic without a name, for child processes.

        A forked child inherits it, and a `multiprocessing.Process` takes it as an argument. It is a
        memfd: it does not count in /dev/shm, and it disappears with its last user. See
        memfd_create(2).

        Args:
            type: see `create`.
            capacity: see `create`.
            history: see `create`.
            size: see `create`.
            peer_gone: see `create`.
            spin: see `create`.

        Raises:
            LimitReached: there is not enough memory, or RLIMIT_NOFILE is reached.
            InvalidArgument: an argument is out of range.
            TypeError: `type` is not a payload type.
        """
        check_options(peer_gone, spin)
        new = _new_memory(codec_for(type), capacity, history, size)
        return cls._create_anonymous(type, new, peer_gone=peer_gone, spin=spin)

    @overload
    @classmethod
    def from_fd(
        cls, fd: int, type: np.dtype[Any], **options: Unpack[HandleOptions]
    ) -> Topic[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def from_fd(
        cls, fd: int, type: PayloadType[V] = ..., **options: Unpack[HandleOptions]
    ) -> Topic[V]: ...
    @classmethod
    def from_fd(
        cls,
        fd: int,
        type: Any = BYTES,
        *,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
    ) -> Topic[Any]:
        """Open a topic by the descriptor of its memory, which another process passed.

        The handle does not own the topic. It takes over the descriptor and closes it. If this
        method raises, the caller still owns the descriptor.

        Args:
            fd: the descriptor: `memory_fd`, or a duplicate of it.
            type: see `open`.
            peer_gone: see `create`.
            spin: see `create`.

        Raises:
            InvalidArgument: `fd` is closed, is not a regular file, or is a memfd without the seal
                SHRINK; or another process holds a lease on the file.
            AccessDenied: `fd` was opened for reading only, or for writing only.
            IpcError: as for `open`.
        """
        check_options(peer_gone, spin)
        return cls._open_fd(fd, type, peer_gone=peer_gone, spin=spin)

    # -- publish -----------------------------------------------------------------------------------

    if TYPE_CHECKING:  # native/topic/ defines and documents these; here are their types

        def publish(self, value: T, *, timeout: float | None = None) -> None:
            """Publish one message, waiting for subscribers that have `depth` unread messages."""

        def loan(
            self, shape: int | tuple[int, ...] | None = None, *, timeout: float | None = None
        ) -> Loan:
            """Return memory in the topic for one message."""
            ...

    def publish_many(
        self, values: Iterable[T] | npt.NDArray[Any], *, timeout: float | None = None
    ) -> None:
        """Publish many messages in order. Those of other publishers can come in between.

        If the topic's type is a Struct or a dtype, an array of records is published in one call
        with one copy. If an exception ends the call, its attribute ``sent`` is the number of
        messages that were published before. This includes KeyboardInterrupt and exceptions of
        signal handlers.

        Args:
            values: the messages: an iterable, or a numpy array of the Struct's or the topic's
                dtype, whose elements are the messages.
            timeout: seconds to wait in total; None waits without limit, 0 does not wait.

        Raises:
            IpcError: as for `publish`.
            TypeError: a value is not of the payload type. The values before it were published.

        >>> import numpy as np
        >>> from ipckit import Topic
        >>> with Topic.anonymous(np.dtype("f8")) as topic, topic.subscribe() as prices:
        ...     topic.publish_many(np.array([1.0, 2.0, 3.0]))
        ...     prices.receive_many()
        array([1., 2., 3.])
        """
        send_all(self, values, timeout)

    # -- subscribe ---------------------------------------------------------------------------------

    def subscribe(
        self,
        *,
        when_full: FullPolicy = "wait",
        depth: int | None = None,
        history: int | None = None,
        peer_gone: PeerGonePolicy | None = None,
        spin: int | None = None,
        timeout: float | None = PATIENCE,
    ) -> Subscription[T]:
        """Subscribe: receive each message that is published from now on.

        The subscription belongs to this process, and stays open if this handle is closed. A handle
        that has subscribed and never published does not count as a publisher.

        Args:
            when_full: what happens if `depth` messages are unread and another one is published:
                with "wait" the publisher waits, or raises `Timeout` and no subscriber gets it;
                with "drop_oldest" this subscription loses its oldest unread message, and its `lost`
                counts it.
            depth: the maximum number of unread messages, 1 to the topic's capacity (default). With
                1 and "drop_oldest", the subscription has the latest message.
            history: the maximum number of old messages to receive first, 0 to the topic's history
                (default). There are fewer if fewer were published, or if `depth` is less.
            peer_gone: what a call does if it waits for a message and the last publisher is gone:
                "raise" `PeerGone`, or "wait" for a new one; by default as the topic's handle.
            spin: see `create`; by default as the topic's handle.
            timeout: seconds to wait for a process that is stopped inside a call.

        Raises:
            LimitReached: the topic has 64 subscribers already; or 256 peers, which are open handles
                and subscriptions; or RLIMIT_NOFILE is reached.
            InvalidArgument: an argument is out of range.
            ClosedHandle: the handle is closed.

        >>> from ipckit import Topic
        >>> with Topic.anonymous(str) as topic:
        ...     with topic.subscribe(when_full="drop_oldest", depth=1) as latest:
        ...         topic.publish_many(["1", "2", "3"])
        ...         latest.receive(), latest.lost
        ('3', 2)
        """
        self._check_open("subscribe")
        check_full_policy(when_full)
        own_peer_gone, own_spin, _ = self._options
        peer_gone = own_peer_gone if peer_gone is None else peer_gone
        spin = own_spin if spin is None else spin
        check_options(peer_gone, spin)
        capacity, most = self.capacity, self.history
        depth = capacity if depth is None else checked_number("depth", depth, 1, capacity)
        history = most if history is None else checked_number("history", history, 0, most)
        subscription: Any = Subscription  # of this topic's T, not of any
        try:
            found: Subscription[T] = construct(
                subscription,
                self,
                when_full=when_full,
                depth=depth,
                history=history,
                peer_gone=peer_gone,
                spin=spin,
                timeout=timeout,
            )
        except IpcError:
            raise
        except OSError as exc:
            self._check_open("subscribe")  # `timeout` may have run code that closed the handle
            raise self._explain_errno(exc.errno or errno.EIO, "subscribe") from None
        return found

    # -- polling and state -------------------------------------------------------------------------

    def space_fileno(self) -> int:
        """Return a descriptor that is readable when a publisher that found no room can try again.

        Then call `publish` with ``timeout=0``, and be ready for `WouldBlock`. The handle keeps the
        descriptor and closes it.

        Raises:
            LimitReached: RLIMIT_NOFILE or RLIMIT_NPROC is reached.
            ClosedHandle: the handle is closed.
        """
        return self._poll_fd(native.POLL_SPACE)

    def stats(self) -> TopicStats:
        """Return the number of messages, the memory in use, and other state of the topic.

        Raises:
            Corrupt: the memory was overwritten or truncated.
            ClosedHandle: the handle is closed.

        >>> from ipckit import Topic
        >>> with Topic.anonymous(capacity=10) as topic, topic.subscribe() as messages:
        ...     topic.publish(b"hello")
        ...     topic.stats().published, topic.stats().subscribers
        (1, 1)
        """
        messages, used, size, published = self._counts()
        subscribers = self.subscribers()
        return TopicStats(
            messages=messages,
            capacity=self.capacity,
            history=self.history,
            bytes_used=used,
            size=size,
            published=published,
            subscribers=len(subscribers),
            publishers=len(self.publishers()),
            lost=sum(each.lost for each in subscribers),
        )

    def subscribers(self) -> list[TopicSubscriber]:
        """Return the subscriptions of the topic, in all live processes.

        Raises:
            Corrupt: the memory was overwritten or truncated.
            ClosedHandle: the handle is closed.

        >>> from ipckit import Topic
        >>> with Topic.anonymous() as topic, topic.subscribe(depth=4) as messages:
        ...     topic.publish(b"hello")
        ...     [(each.policy, each.depth, each.unread) for each in topic.subscribers()]
        [('wait', 4, 1)]
        """
        return [subscriber_of(row) for row in self._subscribers()]

    def publishers(self) -> list[TopicPublisher]:
        """Return the open handles that have published a message, in all live processes.

        Raises:
            Corrupt: the memory was overwritten or truncated.
            ClosedHandle: the handle is closed.

        >>> from ipckit import Topic
        >>> with Topic.anonymous() as topic:
        ...     topic.publish(b"hello")
        ...     [(each.published, each.self) for each in topic.publishers()]
        [(1, True)]
        """
        self._check_open("publishers")
        return [publisher_of(row) for row in self._peers() if row[2] & native.ROLE_SENDER]

    # -- lifecycle ---------------------------------------------------------------------------------

    def _size_text(self) -> str:
        published, count = self._counts()[3], len(self._subscribers())
        text = f"messages of {self._codec.name}, {published} published"
        return f"{text}, {count} subscriber{'' if count == 1 else 's'}"

    def _explain_ring(self, result: int, op: str, timeout: float | None) -> IpcError:
        if result in {native.RING_FULL, native.RING_TIMEOUT} and not self.closed:
            return no_room(op, self._target, timeout, self.subscribers())
        return super()._explain_ring(result, op, timeout)


def _new_memory(
    codec: Codec[Any], capacity: int | None, history: int, size: int | None
) -> NewMemory:
    """Return the memory of a new topic; see `Topic.create`."""
    shape = shape_for(codec, capacity, size)
    return NewMemory(TOPIC, shape, codec, checked_history(history, shape.capacity))
