"""NatsSession: a connection to a NATS server, and the JetStream stream of a bridge on it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from ipckit._bridge.missing import import_library
from ipckit._bridge.payload_type import type_of_metadata
from ipckit.errors import LayoutMismatch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from nats.aio.msg import Msg

    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.payload_type import PayloadType
    from ipckit._bridge.url import BridgeUrl

ACK_WAIT: Final = 3.0  # seconds after which the server delivers a packet again
_PING_SECONDS: Final = 3
_CONNECT_SECONDS: Final = 5
_REQUEST_SECONDS: Final = 5.0
_DUPLICATE_SECONDS: Final = 120.0
REMOVED: Final = "the stream or its consumer was removed"
_WRONG_LAST_ID: Final = 10070
_WATCH_SECONDS: Final = 0.1
_FLUSH_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 2.0
_LEAVE_SECONDS: Final = 1.0


class EngineUnavailableError(Exception):
    """The engine can't be reached, or can't serve the bridge now. The bridge tries again."""


class Refusal(Exception):  # noqa: N818 - the answer to a packet
    """The server did not store a packet.

    Args:
        why: the server's explanation.
        wrong_last: the last packet in the stream is not the one that the bridge sent before.
        no_stream: there is no stream, or no JetStream.
    """

    def __init__(self, why: str, *, wrong_last: bool = False, no_stream: bool = False) -> None:
        super().__init__(why)
        self.wrong_last, self.no_stream = wrong_last, no_stream


class NatsSession:
    """One connection to a NATS server. After it is lost, the bridge makes a new `NatsSession`.

    Attributes:
        client: the client object of nats-py.
        broken: done when the connection is lost.
        last_error: the last error that nats-py reported, as text; "" if there was none.
    """

    def __init__(self, url: BridgeUrl, client: Any) -> None:
        self._url = url
        self.client = client  # nats-py has no complete types
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox = ""
        self._answers: Callable[[int, Exception | None], None] | None = None
        self.last_error = ""

    @property
    def max_payload(self) -> int:
        """The size of the longest message that the server accepts, in bytes."""
        most: int = self.client.max_payload
        return most

    async def connect(self, name: str, **credentials: Any) -> None:
        """Connect to the server; see `nats_session`."""
        try:
            await self.client.connect(
                self._url.server.replace("tls://", "nats://"),
                name=name,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # also for the first connection
                reconnect_time_wait=0,
                connect_timeout=_CONNECT_SECONDS,
                ping_interval=_PING_SECONDS,
                max_outstanding_pings=2,
                flush_timeout=_FLUSH_SECONDS,  # without it, a call can wait forever
                error_cb=self.note_error,
                closed_cb=self.note_closed,
                disconnected_cb=self.note_closed,
                **credentials,
            )
        except OSError as exc:
            refusal = _refusal_of_tls(self.client)
            raise EngineUnavailableError(refusal or self.last_error or message_of(exc)) from None

    async def note_error(self, error: Exception) -> None:
        """Store the text of an error, for the exception that is raised later."""
        self.last_error = message_of(error)

    async def note_closed(self) -> None:
        """Complete `broken`."""
        self._set_broken()

    async def watch(self, life: asyncio.Timeout) -> None:
        """Wait until the connection is lost, and then end the block of `nats_session`.

        If nats-py fails while it closes, it does not call `note_closed`. A call that waits for a
        frozen server, or for one behind a cut link, would continue to wait.

        Args:
            life: the timeout of the block. It expires one second after the loss.
        """
        while not self.client.is_closed:
            await asyncio.sleep(_WATCH_SECONDS)
        self._set_broken()
        await asyncio.sleep(_LEAVE_SECONDS)
        life.reschedule(asyncio.get_running_loop().time())

    def _set_broken(self) -> None:
        if not self.broken.done():
            self.broken.set_result(None)

    async def _request(self, what: str, call: Any) -> Any:
        """Await a request to the server.

        Args:
            what: the name of the request, for the message of the exception.
            call: the coroutine of nats-py that sends the request.

        Raises:
            EngineUnavailableError: the request failed, or the server did not answer in time.
            nats.js.errors.NotFoundError: the stream or the consumer does not exist.
        """
        import nats.errors  # noqa: PLC0415
        import nats.js.errors  # noqa: PLC0415

        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                return await call
        except nats.js.errors.NotFoundError:
            raise
        except (nats.errors.Error, OSError, TimeoutError) as exc:
            message = f"{what}: {message_of(exc)}"
            raise EngineUnavailableError(message) from None

    # -- the stream --------------------------------------------------------------------------------

    @property
    def subject(self) -> str:
        """The subject of the stream."""
        return f"ipckit.{self._url.name}"

    async def stream_type(self) -> PayloadType | None:
        """Return the type of the messages in the stream; None if there is no stream.

        Raises:
            EngineUnavailableError: the server can't be reached, or has no JetStream.
            LayoutMismatch: the stream was not made by a bridge.
        """
        import nats.js.errors  # noqa: PLC0415

        name = self._url.name
        try:
            info = await self._request("JetStream", self.client.jsm().stream_info(name))
        except nats.js.errors.NotFoundError:
            return None
        target = f"stream {name} at {self._url.server}"
        if info.config.retention != "workqueue":
            message = "the stream exists, and is not a work queue"
            hint = "use another name, or remove the stream"
            raise LayoutMismatch(message, errno=74, op="bridge", target=target, hint=hint)
        return type_of_metadata(info.config.metadata or {}, target)

    async def make_stream(self, payload: PayloadType, options: BridgeOptions) -> None:
        """Create the stream unless it exists, and check that its messages have the type.

        Raises:
            EngineUnavailableError: the server can't be reached, or has no room for the stream.
            LayoutMismatch: the stream has messages of another type, or was not made by a bridge.
        """
        from nats.js.api import (  # noqa: PLC0415
            DiscardPolicy,
            RetentionPolicy,
            StorageType,
            StreamConfig,
        )

        found = await self.stream_type()
        if found is None:
            memory = options.storage == "memory"
            config = StreamConfig(
                name=self._url.name,
                subjects=[self.subject],
                retention=RetentionPolicy.WORK_QUEUE,
                discard=DiscardPolicy.NEW,
                storage=StorageType.MEMORY if memory else StorageType.FILE,
                max_bytes=options.max_bytes,
                duplicate_window=_DUPLICATE_SECONDS,
                metadata=payload.metadata(),
            )
            await self._request("create the stream", self.client.jsm().add_stream(config))
            found = await self.stream_type()
        if found is not None:
            payload.check_same(found, f"stream {self._url.name} at {self._url.server}")

    # -- publishing packets ------------------------------------------------------------------------

    async def listen(self, answers: Callable[[int, Exception | None], None]) -> None:
        """Subscribe to the server's answers to packets.

        Args:
            answers: called for each answer, with the number of the packet, and with None if the
                server has stored the packet, or else the `Refusal`.
        """
        self._answers = answers
        self._inbox = self.client.new_inbox()
        await self.client.subscribe(f"{self._inbox}.*", cb=self._answered)

    async def _answered(self, msg: Msg) -> None:
        number = int(msg.subject.rpartition(".")[2])
        problem: Exception | None = None
        if not msg.data:  # the server's "no responders": no stream has this subject
            problem = Refusal("the stream was removed", no_stream=True)
        elif msg.data.startswith(b'{"error"'):
            error: dict[str, Any] = json.loads(msg.data)["error"]
            why = error.get("description", "the server refuses a packet")
            problem = Refusal(why, wrong_last=error.get("err_code") == _WRONG_LAST_ID)
        if self._answers is not None:
            self._answers(number, problem)

    async def publish(self, number: int, data: bytes, id: str, after: str | None) -> None:
        """Send a packet.

        Args:
            number: the packet's number.
            data: the packet.
            id: the packet's id. The server ignores a packet if it has stored one with this id.
            after: the id of the packet that must be the last one in the stream; None for any.

        Raises:
            EngineUnavailableError: the connection is lost.
        """
        import nats.errors  # noqa: PLC0415

        headers = {"Nats-Msg-Id": id}
        if after is not None:
            headers["Nats-Expected-Last-Msg-Id"] = after
        reply = f"{self._inbox}.{number}"
        try:
            await self.client.publish(self.subject, data, reply=reply, headers=headers)
        except (nats.errors.Error, OSError) as exc:
            raise EngineUnavailableError(message_of(exc)) from None

    # -- receiving packets -------------------------------------------------------------------------

    async def make_consumer(self, window: int) -> None:
        """Create the consumer that all receiving bridges of the stream share, unless it exists.

        Args:
            window: how many unacknowledged packets one bridge may have.

        Raises:
            EngineUnavailableError: the server can't be reached.
        """
        import nats.js.errors  # noqa: PLC0415
        from nats.js.api import AckPolicy, ConsumerConfig  # noqa: PLC0415

        name = self._url.name
        config = ConsumerConfig(
            durable_name=name,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=window * 16,
            filter_subject=self.subject,
        )
        try:
            await self._request("the consumer", self.client.jsm().consumer_info(name, name))
        except nats.js.errors.NotFoundError:
            with self._removed():
                call = self.client.jsm().add_consumer(name, config)
                await self._request("create the consumer", call)

    async def unacknowledged(self) -> int:
        """Return how many delivered packets are not acknowledged, for all receiving bridges.

        Raises:
            EngineUnavailableError: the server can't be reached, or the stream or the consumer was
                removed.
        """
        name = self._url.name
        with self._removed():
            info = await self._request("the consumer", self.client.jsm().consumer_info(name, name))
        return info.num_ack_pending or 0

    @contextmanager
    def _removed(self) -> Generator[None]:
        """Raise EngineUnavailableError if there is no stream or no consumer."""
        import nats.js.errors  # noqa: PLC0415

        try:
            yield
        except nats.js.errors.NotFoundError:
            raise EngineUnavailableError(REMOVED) from None


def message_of(exc: BaseException) -> str:
    """Return the message of an exception of nats-py, for users."""
    if isinstance(exc, TimeoutError) and not exc.args:
        return "the server does not answer"
    if isinstance(exc, OSError) and exc.errno:
        return _message_of_os_error(exc)
    if getattr(exc, "description", "") is None:  # an answer of JetStream without a description
        return "JetStream does not answer"
    text: str = getattr(exc, "description", None) or str(exc).removeprefix("nats: ")
    if text.startswith("'") and text.endswith("'"):  # the server quotes its last error message
        text = text[1:-1]
    return text or type(exc).__name__


def _message_of_os_error(exc: OSError) -> str:
    # The first three classes do not use the numbers of errno.
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError):
        return f"TLS failed: {(exc.reason or str(exc)).replace('_', ' ').lower()}"
    if isinstance(exc, socket.gaierror):
        return exc.strerror or "the name of the host is unknown"
    return os.strerror(exc.errno or 0)  # asyncio's own message only names the address


def _note_tls(client: Any) -> None:
    """Let asyncio's protocol know that the connection uses TLS, which nats-py does not tell it.

    Otherwise asyncio logs a warning when the server closes the connection, and the command prints
    it. Neither package has a public name for this.
    """
    with suppress(AttributeError):
        protocol = client._transport._io_writer.transport.get_protocol()
        protocol._over_ssl = True


def _refusal_of_tls(client: Any) -> str:
    """Return why the TLS handshake with the server failed; "" if it did not, or if unknown.

    nats-py may only see that the connection has ended. The stream reader of asyncio has the reason,
    and nats-py has no public attribute for that reader.
    """
    with suppress(AttributeError):
        found = client._transport._io_reader.exception()
        if isinstance(found, ssl.SSLError):
            return message_of(found)
    return ""


def _client(*, wants_tls: bool) -> Any:
    """Return a client of nats-py that is not connected yet.

    If the server does not ask for TLS, nats-py continues without it, and sends the credentials. An
    attacker between the two machines could remove the server's request for TLS. So the client
    checks the request if TLS is wanted.
    """
    import nats.errors  # noqa: PLC0415
    from nats.aio.client import Client  # noqa: PLC0415

    class TlsClient(Client):
        def _connect_command(self) -> bytes:
            if not self._server_info.get("tls_required"):
                message = "the server does not use TLS, which the URL or a file for TLS demands"
                raise nats.errors.Error(message)
            return super()._connect_command()

    return TlsClient() if wants_tls else Client()


@asynccontextmanager
async def nats_session(
    url: BridgeUrl, options: BridgeOptions, name: str
) -> AsyncGenerator[NatsSession]:
    """Connect to a NATS server for an ``async with`` block.

    Args:
        url: the URL of the bridge.
        options: the options of the bridge.
        name: the name of the connection, which the server shows in its monitoring.

    Raises:
        EngineUnavailableError: the server can't be reached, or a call in the block has failed.
        NotFound: nats-py or nkeys is not installed.
        InvalidArgument: a file for TLS has no certificate or key as PEM.
    """
    import_library("nats", "nats-py", "nats")
    import nats.errors  # noqa: PLC0415

    given: dict[str, Any] = {}
    if options.credentials is not None:
        import_library("nkeys", "nkeys", "nats")  # nats-py imports it when it reads the file
        given["user_credentials"] = options.credentials
    if (tls := options.tls(wanted=url.scheme == "tls")) is not None:
        given["tls"] = tls
    session = NatsSession(url, _client(wants_tls=tls is not None))
    life = asyncio.timeout(None)
    watching = asyncio.create_task(session.watch(life))
    try:
        async with life:
            await session.connect(name, **given)
            if tls is not None:
                _note_tls(session.client)
            yield session
    except nats.errors.Error as exc:  # any call of nats-py can raise it
        raise EngineUnavailableError(session.last_error or message_of(exc)) from None
    except TimeoutError:
        if not life.expired():
            raise
        raise EngineUnavailableError(session.last_error or "the connection was lost") from None
    finally:
        watching.cancel()
        await _close(session.client)


async def _close(client: Any) -> None:
    """Close a connection, and cancel the tasks that nats-py leaves running after an error.

    asyncio would print a warning for each of these tasks. nats-py has no public names for them.
    """
    with suppress(Exception):  # the connection is not used any more
        async with asyncio.timeout(_CLOSE_SECONDS):  # `close` sends the packets that still wait
            await client.close()
    # There may be no connection, or another version of nats-py may use other names.
    with suppress(AttributeError):
        client._transport._io_writer.transport.abort()
    tasks = [
        getattr(client, f"_{each}_task", None) for each in ("reading", "ping_interval", "flusher")
    ]
    subscriptions = getattr(client, "_subs", {}).values()
    tasks += [getattr(each, "_wait_for_msgs_task", None) for each in subscriptions]
    left = [task for task in tasks if task is not None]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
