"""``ipckit bridge``: wrong arguments and files, and the help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ipckit._cli import bridging
from ipckit.bridge import BridgeOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., Any]

URL = "nats://127.0.0.1:4222/jobs"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "a bridge needs two ends"),
        (("channel:a",), "a bridge needs two ends"),
        (("channel:a", "channel:b"), "both ends are objects of this machine"),
        ((URL, URL), "both ends are URLs"),
        (("queue:a", URL), "the address must be channel:NAME or topic:NAME, not 'queue:a'"),
        (("channel:", URL), "the address must be channel:NAME or topic:NAME"),
        (("channel:a", "http://host/x"), "the URL must begin with nats://, tls:// or zenoh://"),
        (("channel:a", "nats://host/"), "the URL must end with a name"),
        (("channel:a", "nats://host:x/y"), "the URL is invalid"),
        (("channel:a", "zenoh://host/x"), "zenoh keeps no messages"),
        (("channel:a", URL, "--receive"), "--receive needs the channel or topic as the second"),
        ((URL, "channel:a", "--send"), "--send needs the channel or topic as the first"),
        (("channel:a", URL, "--capacity", "5"), "--capacity does not apply to a bridge that sends"),
        (
            (URL, "channel:a", "--max-bytes", "1G"),
            "--max-bytes does not apply to a bridge that receives",
        ),
        (
            (URL, "channel:a", "--storage", "file"),
            "--storage does not apply to a bridge that receives",
        ),
        (("channel:a", URL, "--when-full", "wait"), "--when-full applies to topics"),
        (("channel:a", URL, "--max-bytes", "many"), "'many' is not a size"),
        (("channel:a", URL, "--window", "0"), "0 is not in the range"),
        (("channel:a", URL, "--creds", "/no/such/file"), "'/no/such/file' does not exist"),
        (("channel:a", URL, "--tls-key", __file__), "tls_key needs tls_cert"),
        (("channel:a", URL, "more"), "unexpected extra argument"),
        (("--config", __file__, "channel:a", URL), "--config excludes"),
        (("--config", __file__, "--window", "3"), "--config excludes"),
        (("--config", "/no/such/file"), "'/no/such/file' does not exist"),
    ],
)
def test_wrong_arguments(run: Run, words: tuple[str, ...], text: str) -> None:
    done = run("bridge", *words)
    assert done.status == 2
    assert text in done.err
    assert done.err.count("\n") == 1


def test_a_password_on_the_command_line_is_refused_and_not_shown(run: Run) -> None:
    done = run("bridge", "channel:a", "nats://user:secret@127.0.0.1:4222/jobs")
    assert done.status == 2
    assert "the URL has a user or password" in done.err
    assert "--creds FILE" in done.err
    assert "secret" not in done.err


ENDS = f'[[bridge]]\nfrom = "channel:a"\nto = "{URL}"\n'


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "no bridge; each is a table [[bridge]]"),
        ("bridge = 3", "no bridge"),
        ("bridge = []", "no bridge"),
        ("bridge = [3]", "bridge 1 is not a table"),
        ("[bridge]\nfrom = 'a'", "no bridge"),
        ("from = 'channel:a'", "unknown key 'from'; each bridge is a table [[bridge]]"),
        ("[[bridge]]\nfrom = x", "(at line 2, column 8)"),
        ("[[bridge]]\nfrom = 'channel:a'", "bridge 1: the key 'to' is missing"),
        (f"{ENDS}frm = 1", "bridge 1: unknown key 'frm'; known are capacity, credentials, from"),
        (f"{ENDS}{ENDS}", "bridge 2: an earlier bridge has the same ends"),
        (f"{ENDS}window = '3'", "bridge 1: 'window' must be a whole number of 1 or more, not '3'"),
        (f"{ENDS}window = true", "'window' must be a whole number"),
        (f"{ENDS}window = 300", "bridge 1: bridge: window must be 1 to 256, not 300"),
        (f"{ENDS}max_bytes = 'many'", "'max_bytes' must be a size such as 65536 or \"4G\""),
        (f"{ENDS}max_bytes = 0", "'max_bytes' must be a size"),
        (f"{ENDS}storage = 3", "'storage' must be a text, not 3"),
        (f"{ENDS}storage = 'tape'", "storage must be 'file' or 'memory', not 'tape'"),
        (f"{ENDS}capacity = 3", "'capacity' does not apply to a bridge that sends"),
        (f"{ENDS}credentials = 'no.creds'", "'credentials': there is no file"),
        ("[[bridge]]\nfrom = 'channel:a'\nto = 'channel:b'", "bridge 1: both ends are objects"),
        ("[[bridge]]\nfrom = 3\nto = 'channel:b'", "'from' must be a text, not 3"),
        ("[[bridge]]\nfrom = 'x:a'\nto = 'nats://h/x'", "bridge 1: bridge: the address must be"),
        (
            "[[bridge]]\nfrom = 'channel:a'\nto = 'nats://u:p4ss@h/x'",
            "bridge 1: bridge: the URL has a user or password",
        ),
    ],
)
def test_a_wrong_file(run: Run, tmp_path: Path, content: str, text: str) -> None:
    file = tmp_path / "bridges.toml"
    file.write_text(content)
    done = run("bridge", "--config", file)
    assert done.status == 2
    assert done.err.startswith(f"ipckit: {file}: ")
    assert text in done.err
    assert "p4ss" not in done.err


def test_a_file_that_is_no_text(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "bridges.toml"
    file.write_bytes(b"\xff\xfe")
    done = run("bridge", "--config", file)
    assert (done.status, "decode" in done.err) == (2, True)


def test_files_are_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "jobs.creds").touch()
    file = tmp_path / "bridges.toml"
    file.write_text(f'{ENDS}credentials = "jobs.creds"\nmax_bytes = "4G"\npacket_messages = 7\n')
    (route,) = bridging.routes_of_file(file)
    assert (route.direction, route.address, route.url) == ("send", "channel:a", URL)
    assert route.options == BridgeOptions(
        credentials=str(tmp_path / "jobs.creds"), max_bytes=4 << 30, packet_messages=7
    )


def test_every_option_of_a_bridge_is_a_key() -> None:
    assert frozenset(BridgeOptions.__slots__) | {"from", "to"} == bridging._KEYS


def test_the_help_fits_80_columns(run: Run) -> None:
    done = run("bridge", "--help")
    assert done.status == 0
    lines = done.out.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert "ipckit bridge --config bridges.toml" in done.out.decode()


def test_no_channel_is_an_error(run: Run) -> None:
    done = run("bridge", "channel:no-such-channel", URL)
    assert done.status == 1
    assert done.err.startswith(f"ipckit bridge: channel:no-such-channel {URL}: ")
    assert "no such channel" in done.err
