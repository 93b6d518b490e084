"""The URLs of bridges: ``nats://HOST:PORT/NAME`` and ``zenoh://HOST:PORT/NAME``."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from urllib.parse import SplitResult

Scheme = Literal["nats", "tls", "zenoh"]

_SCHEMES: Final[tuple[Scheme, ...]] = ("nats", "tls", "zenoh")
_PORTS: Final[dict[Scheme, int]] = {"nats": 4222, "tls": 4222, "zenoh": 7447}
# NATS accepts such a name for a stream and as a token of a subject. zenoh accepts it in a key.
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class BridgeUrl:
    """A parsed URL.

    Attributes:
        text: the URL as it was given.
        scheme: "nats", "tls" (NATS over TLS) or "zenoh".
        host: the host; "" for zenoh without an address, which finds its peers by multicast.
        port: the port, by default that of the engine.
        name: the last part of the URL: the name of the stream, or a part of the key.
    """

    text: str
    scheme: Scheme
    host: str
    port: int
    name: str

    @property
    def server(self) -> str:
        """The URL without the name, for nats-py."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_url(text: str) -> BridgeUrl:
    """Parse the URL of a bridge.

    Raises:
        InvalidArgument: the text is not the URL of a bridge, or contains a user or password.
    """
    parts = _split(text)
    if parts.scheme not in _SCHEMES:
        raise _invalid(f"the URL must begin with nats://, tls:// or zenoh://: {_shown(text)}")
    scheme: Scheme = parts.scheme
    if parts.username is not None or parts.password is not None:
        hint = "pass a file with credentials instead: credentials=, or --creds FILE"
        raise _invalid("the URL has a user or password, which other users can see in ps", hint)
    name = parts.path.removeprefix("/")
    if not _NAME.fullmatch(name):
        message = f"the URL must end with a name of letters, digits, - and _: {_shown(text)}"
        raise _invalid(message, f"for example {scheme}://{parts.netloc or 'host'}/jobs")
    if parts.query or parts.fragment:
        raise _invalid(f"the URL must end after the name: {_shown(text)}")
    if not parts.hostname and scheme != "zenoh":
        raise _invalid(f"the URL names no host: {_shown(text)}", f"{scheme}://127.0.0.1/{name}")
    return BridgeUrl(text, scheme, parts.hostname or "", parts.port or _PORTS[scheme], name)


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises ValueError if the port is not a number
    except ValueError as exc:
        message = f"the URL is invalid: {_shown(text)}: {exc}"
        raise _invalid(message) from None
    return parts


def _shown(text: str) -> str:
    """Return the URL without the text before an @, because it can be a password."""
    return re.sub(r"//[^@/]*@", "//...@", text)


def _invalid(message: str, hint: str = "") -> InvalidArgument:
    return InvalidArgument(message, errno=errno.EINVAL, op="bridge", hint=hint)
