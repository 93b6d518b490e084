"""Tests of bridges to a NATS server that requires TLS certificates and credentials."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bridge_commands import LONG, until
from nats_security import Certificates, Operator
from nats_server import NatsServer, nats_program

from ipckit import Channel, NotFound, Topic
from ipckit.bridge import BridgeOptions, forward, receive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.testing import Namespace


class Guarded:
    """A server that requires certificates and credentials from its clients.

    Args:
        directory: the directory for its files.

    Attributes:
        operator: the operator; it signs the credentials.
        certificates: the authority that has signed the certificates.
        server: the server.
        options: the options with which a bridge may connect.
    """

    def __init__(self, directory: Path) -> None:
        self.operator = Operator()
        self.certificates = Certificates(directory / "certificates")
        cert, key = self.certificates.issue("server")
        configuration = directory / "server.conf"
        configuration.write_text(
            self.operator.configuration()
            + f"tls {{ cert_file: {cert}, key_file: {key}, "
            + f"ca_file: {self.certificates.ca}, verify: true }}\n"
        )
        self.server = NatsServer(nats_program(), directory, "-c", str(configuration))
        self._credentials = directory / "user.creds"
        self._credentials.write_text(self.operator.credentials())
        cert, key = self.certificates.issue("client")
        self.options = BridgeOptions(
            credentials=str(self._credentials),
            tls_ca=self.certificates.ca,
            tls_cert=cert,
            tls_key=key,
        )

    @property
    def url(self) -> str:
        """The URL of a stream on the server."""
        return f"{self.server.url.replace('nats:', 'tls:')}/guarded"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    found = Guarded(tmp_path)
    found.server.start()
    yield found
    found.server.kill()


def test_channels_and_topics_with_certificates_and_credentials(
    guarded: Guarded, near: Channel[str], ns: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    options = guarded.options
    with (
        Channel.create(ns.name(), str, peer_gone="wait") as far,
        forward(near, guarded.url, options),
        receive(guarded.url, far, options),
    ):
        near.send("over TLS")
        assert far.receive(timeout=LONG) == "over TLS"
    with (
        Topic.create(ns.name(), str, peer_gone="wait") as here,
        Topic.create(ns.name(), str, peer_gone="wait") as there,
        forward(here, guarded.url, options),
        receive(guarded.url, there, options) as bridge,
        there.subscribe() as messages,
    ):
        bridge.wait_connected(timeout=LONG)
        here.publish("over TLS")
        assert messages.receive(timeout=LONG) == "over TLS"
    assert caplog.messages == []  # asyncio logs a warning if it does not know of TLS


def test_a_file_for_tls_is_enough_to_use_it(guarded: Guarded, near: Channel[str]) -> None:
    url = guarded.url.replace("tls:", "nats:")
    with forward(near, url, guarded.options) as bridge:
        bridge.wait_connected(timeout=LONG)


def test_refused_credentials_are_read_again(guarded: Guarded, near: Channel[str]) -> None:
    assert guarded.options.credentials is not None
    file = Path(guarded.options.credentials)
    right = file.read_text()
    file.write_text(Operator().credentials())
    with forward(near, guarded.url, guarded.options) as bridge:
        until(lambda: bridge.stats().reason == "Authorization Violation")
        file.write_text(right)
        bridge.wait_connected(timeout=LONG)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"credentials": None}, "Authorization Violation"),
        ({"tls_ca": "other"}, "the server's certificate is not accepted: unable to get"),
        ({"tls_cert": None, "tls_key": None}, "TLS failed: tlsv13 alert certificate required"),
    ],
)
def test_the_reason_of_a_refusal_is_shown(
    wrong: dict[str, str | None], words: str, guarded: Guarded, near: Channel[str], tmp_path: Path
) -> None:
    if wrong.get("tls_ca"):
        wrong = {"tls_ca": Certificates(tmp_path / "other").ca}
    with forward(near, guarded.url, replace(guarded.options, **wrong)) as bridge:
        # Before the bridge reads an alert of TLS, it may find that it can't write.
        until(lambda: bridge.stats().reason.startswith(words))


def test_a_server_without_tls_is_refused_if_the_url_demands_it(
    server: NatsServer, near: Channel[str]
) -> None:
    with forward(near, f"{server.url.replace('nats:', 'tls:')}/plain") as bridge:
        assert "does not use TLS" in until(lambda: bridge.stats().reason)


@pytest.mark.parametrize("scheme", ["tls", "nats"])
def test_nothing_is_sent_to_a_server_without_tls_if_it_is_demanded(
    scheme: str, near: Channel[str], tmp_path: Path
) -> None:
    file = Certificates(tmp_path / "files").ca if scheme == "nats" else None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/plain"
        with forward(near, url, BridgeOptions(tls_ca=file)):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(LONG)
                connection.sendall(b'INFO {"nonce": "abc", "auth_required": true}\r\n')
                assert connection.recv(100) == b""


def test_credentials_without_the_package_that_they_need(
    server: NatsServer, near: Channel[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "jobs.creds"
    file.touch()
    monkeypatch.setitem(sys.modules, "nkeys", None)
    options = BridgeOptions(credentials=str(file))
    with (
        forward(near, f"{server.url}/credentials", options) as bridge,
        pytest.raises(NotFound, match="nkeys is not installed"),
    ):
        bridge.wait(LONG)
