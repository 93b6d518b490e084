"""The scripts for services as a user runs them: ``python path/to/script.py`` from anywhere."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from script_runs import SCRIPTS

from ipckit import NotFound
from ipckit.rpc import Client

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from script_runs import Scripts

    from ipckit.testing import Namespace


@contextmanager
def serving(scripts: Scripts, name: str, *options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, and end it with Ctrl-C."""
    with scripts.start("rpc_server.py", "--name", name, *options) as server:
        assert server.stdout.readline() == b"serving %s\n" % name.encode()
        try:
            yield server
        finally:
            server.send_signal(signal.SIGINT)
            _, err = server.communicate(timeout=60)
        assert (server.returncode, err) == (128 + signal.SIGINT, b"")


def test_calls_of_each_kind(scripts: Scripts, ns: Namespace) -> None:
    name = ns.name()[1:]
    here = ("rpc_client.py", "--name", name, "--timeout", 60)
    with serving(scripts, name, "--workers", 2):
        done = scripts.run_all(
            (*here, "divide", 7),
            (*here, "divide", "b=4", "a=2"),
            (*here, "norm", "[3,4]"),
            (*here, "scale", "[1,2]", "factor=3"),
            (*here, "count", 10, "step=5", "--stream", 3),
        )
    assert [(each.returncode, each.stdout, each.stderr) for each in done] == [
        (0, b"3.5\n", b""),
        (0, b"0.5\n", b""),
        (0, b"5.0\n", b""),
        (0, b"[3. 6.]\n", b""),
        (0, b"10\n15\n20\n", b""),
    ]
    with pytest.raises(NotFound):
        Client.open(name)


def test_an_error_is_one_line(scripts: Scripts, ns: Namespace) -> None:
    name = ns.name()[1:]
    here = ("rpc_client.py", "--name", name)
    with serving(scripts, name):
        done = scripts.run_all(
            (*here, "divide", 1, 0),
            (*here, "divide", "seven"),
            (*here, "multiply", 2, 3),
            (*here, "work", 60, "--timeout", 0.1),
            (*here, "divide", 1, 0, "--traceback"),
        )
    *plain, traced = [(each.returncode, each.stdout, each.stderr.decode()) for each in done]
    failed = "error: call divide on service NAME: ZeroDivisionError: float division by zero\n"
    unknown = "error: call on service NAME: the service has no method 'multiply'; it has: "
    assert [(code, out, err.replace(name, "NAME")) for code, out, err in plain] == [
        (1, b"", failed),
        (1, b"", "error: service NAME.divide: a: Expected `float`, got `str`\n"),
        (1, b"", unknown + "divide, scale, count, work, norm\n"),
        (1, b"", "error: call work on service NAME: no result within 0.1 s\n"),
    ]
    code, out, err = traced
    assert (code, out) == (1, b"")
    assert "in divide\n    return a / b\n" in err
    assert err.replace(name, "NAME").endswith(failed)


def test_a_service_that_does_not_exist(scripts: Scripts, ns: Namespace) -> None:
    name = ns.name()[1:]
    done = scripts.run("rpc_client.py", "--name", name, "divide", 1, "--timeout", 0.1)
    assert (done.returncode, done.stdout) == (1, b"")
    message = f"error: open on service {name}: no process created a service of that name"
    assert done.stderr.decode() == f"{message} within 0.1 s\n"
    assert scripts.run("rpc_client.py", "--name", name).returncode == 2


@pytest.mark.parametrize("method", ["work", "count"])
def test_ctrl_c_of_the_client_stops_the_method(
    scripts: Scripts, ns: Namespace, method: str
) -> None:
    name = ns.name()[1:]
    with serving(scripts, name) as server:
        assert server.stdout
        with scripts.start("rpc_client.py", "--name", name, method, 1000) as client:
            assert client.stdout
            if method == "work":
                assert server.stdout.readline() == b"work: 1000 s\n"
            else:
                assert client.stdout.readline() == b"1000\n"
            client.send_signal(signal.SIGINT)
            _, err = client.communicate(timeout=60)
            assert (client.returncode, err) == (128 + signal.SIGINT, b"")
        if method == "work":
            assert server.stdout.readline() == b"work: the client no longer waits\n"
        done = scripts.run("rpc_client.py", "--name", name, "divide", 1)
        assert (done.returncode, done.stdout) == (0, b"0.5\n")


def test_two_servers_serve_one_name(scripts: Scripts, ns: Namespace) -> None:
    name = ns.name()[1:]
    with (
        serving(scripts, name) as first,
        serving(scripts, name) as second,
        Client.open(name) as client,
    ):
        futures = [client.submit("work", 0.2, timeout=60) for _ in range(2)]
        assert {each.result() for each in futures} == {first.pid, second.pid}


def test_the_scripts_are_short() -> None:
    for name in ("rpc_server.py", "rpc_client.py"):
        assert len((SCRIPTS / name).read_text().splitlines()) <= 80
