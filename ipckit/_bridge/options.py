"""BridgeOptions: limits of a bridge, and the files with its credentials."""

from __future__ import annotations

import errno
import os
import ssl
from dataclasses import dataclass
from typing import Literal

from ipckit._core.public import public
from ipckit.errors import InvalidArgument, from_errno

Storage = Literal["file", "memory"]


@public("ipckit.bridge")
@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeOptions:
    """The options of a bridge. Secrets are in files, because other users can see command lines.

    Attributes:
        credentials: path of a NATS credentials file (``.creds``).
        tls_ca: path of a PEM file with certificates of authorities. One of them must have signed
            the server's certificate.
        tls_cert: path of a PEM file with this client's certificate.
        tls_key: path of a PEM file with the key of that certificate.
        zenoh_config: path of a zenoh configuration, JSON5, which can contain TLS and credentials.
        storage: where a new JetStream stream stores messages: "file" (the default) or "memory".
        max_bytes: the most bytes that a new JetStream stream stores; 1 GiB by default. When the
            stream is full, the sending bridge waits.
        window: the most unacknowledged packets, 1 to 256; 64 by default.
        packet_messages: the most messages in a packet; 1024 by default.
        packet_bytes: the most bytes of messages in a packet; 131072 by default. A longer message
            has a packet of its own.
        capacity: the capacity of a channel or topic that the receiving bridge creates. By default
            that of `Channel.create` for a channel, and that of the other side for a topic.
        when_full: for a topic, if the other side is slow: "wait" (the default) makes publishers
            wait; "drop_oldest" drops the oldest messages that wait, and counts them as lost.

    Raises:
        InvalidArgument: a number is outside its range, `storage` or `when_full` has another value,
            or `tls_key` was passed without `tls_cert`.

    Example:
        >>> from ipckit.bridge import BridgeOptions
        >>> BridgeOptions(storage="memory").window
        64
    """

    credentials: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    zenoh_config: str | None = None
    storage: Storage = "file"
    max_bytes: int = 1 << 30
    window: int = 64
    packet_messages: int = 1024
    packet_bytes: int = 1 << 17
    capacity: int | None = None
    when_full: Literal["wait", "drop_oldest"] = "wait"

    def __post_init__(self) -> None:
        limits = {"window": 256, "packet_messages": 1 << 20, "packet_bytes": 1 << 30}
        limits["max_bytes"] = 1 << 62
        for name, most in limits.items():
            if not 1 <= (value := getattr(self, name)) <= most:
                raise _invalid(f"{name} must be 1 to {most}, not {value}")
        if self.storage not in {"file", "memory"}:
            raise _invalid(f"storage must be 'file' or 'memory', not {self.storage!r}")
        if self.when_full not in {"wait", "drop_oldest"}:
            raise _invalid(f"when_full must be 'wait' or 'drop_oldest', not {self.when_full!r}")
        if self.tls_key is not None and self.tls_cert is None:
            raise _invalid("tls_key needs tls_cert")

    def check_files(self) -> None:
        """Check that this process can read the files, before the bridge waits for an engine.

        Raises:
            NotFound: a file does not exist.
            AccessDenied: this process may not read a file.
        """
        for path in (self.credentials, self.tls_ca, self.tls_cert, self.tls_key, self.zenoh_config):
            if path is not None:
                try:
                    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
                except OSError as exc:
                    code = exc.errno or errno.EIO
                    raise from_errno(code, op="open", target=f"file {path}") from None

    def tls(self, *, wanted: bool) -> ssl.SSLContext | None:
        """Return the TLS context; None if TLS is neither wanted nor configured.

        Args:
            wanted: whether the URL demands TLS.

        Raises:
            InvalidArgument: a PEM file contains no certificate or key, or an invalid one.
        """
        if not wanted and self.tls_ca is None and self.tls_cert is None:
            return None
        path = self.tls_ca
        try:
            context = ssl.create_default_context(cafile=path)
            if self.tls_cert is not None:
                path = self.tls_cert
                context.load_cert_chain(path, self.tls_key)
        except ssl.SSLError as exc:
            raise _invalid(f"{path} is not a valid PEM file: {exc}") from None
        return context


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(message, errno=errno.EINVAL, op="bridge")
