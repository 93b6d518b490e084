"""The options of bridges."""

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
        credentials: a file with credentials of NATS (``.creds``).
        tls_ca: a file with certificates of authorities, as PEM. One of them must have signed the
            server's certificate.
        tls_cert: a file with this client's certificate, as PEM.
        tls_key: a file with the key of that certificate, as PEM.
        zenoh_config: a file with the configuration of zenoh, as JSON5; it can have TLS and
            credentials.
        storage: where a new JetStream stream keeps messages: "file" (the default) or "memory".
        max_bytes: bytes that a new JetStream stream keeps; 1 GiB by default. When it is full, the
            sending bridge waits.
        window: packets on the way at one time, 1 to 256; 64 by default.
        packet_messages: messages in one packet at most; 1024 by default.
        packet_bytes: bytes of messages in one packet, unless a single one has more; 131072 by
            default.
        capacity: of a channel or topic that the receiving side creates; by default as `create` has
            it for a channel, and as on the other side for a topic.
        when_full: of a topic: "wait" (the default) makes publishers wait for the other side;
            "drop_oldest" drops messages that the other side can't take, and counts them.

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
        """Check that this process can read the files, so that no bridge waits in vain.

        Raises:
            NotFound: there is no such file.
            AccessDenied: this process may not read it.
        """
        for path in (self.credentials, self.tls_ca, self.tls_cert, self.tls_key, self.zenoh_config):
            if path is not None:
                try:
                    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
                except OSError as exc:
                    code = exc.errno or errno.EIO
                    raise from_errno(code, op="open", target=f"file {path}") from None

    def tls(self, *, wanted: bool) -> ssl.SSLContext | None:
        """Return the context of TLS; None if TLS is neither wanted nor configured.

        Raises:
            InvalidArgument: a file has no certificate or key as PEM.
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
            raise _invalid(f"{path} is not what it should be as PEM: {exc}") from None
        return context


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(message, errno=errno.EINVAL, op="bridge")
