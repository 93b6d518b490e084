"""The echo and UDP scripts as a user runs them: every model, over every transport."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from script_runs import fails

MODELS = ["fork", "thread", "select", "poll", "epoll", "epoll-et", "asyncio"]
CAME_BACK = b"%d bytes came back as they were sent\n"


def reach(server: Any) -> socket.socket:
    """A socket connected to a server; a hang is an error."""
    transport = server.options[1]
    family = socket.AF_UNIX if transport == "unix" else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
    sock.settimeout(60)
    try:
        sock.connect(server.address)
    except OSError:
        sock.close()
        raise
    return sock


def ping(sock: socket.socket, data: bytes = b"ping") -> None:
    sock.sendall(data)
    got = b""
    while len(got) < len(data) and (piece := sock.recv(65536)):
        got += piece
    assert got == data


# -- every model and transport ---------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_streams(sockets: Any, transport: str, model: str) -> None:
    server = sockets.server("echo_server.py", "--model", model, *sockets.address(transport))
    done = sockets.run("echo_client.py", *server.options, "hello", "", "caf\xe9")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == "hello\n\ncaf\xe9\n".encode()
    with reach(server) as first, reach(server) as second:
        ping(second)
        ping(first)
        # Stopped and continued, a server may see EINTR; its clients see nothing.
        server.send_signal(signal.SIGSTOP)
        first.sendall(b"while stopped")
        server.send_signal(signal.SIGCONT)
        assert first.recv(100) == b"while stopped"
        # One that goes by a reset, with bytes under way, takes nobody along.
        second.sendall(bytes(100_000))
        second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        second.close()
        ping(first)
    done = sockets.run("echo_client.py", *server.options, "--bytes", 3_000_001)
    assert (done.returncode, done.stdout, done.stderr) == (0, CAME_BACK % 3_000_001, b"")
    with reach(server) as idle:
        ping(idle)
        server.ctrl_c()
        # The end, or a reset where bytes were under way.
        assert idle.recv(1) == b""
    if transport == "unix":
        assert not Path(server.address).exists()


@pytest.mark.parametrize("model", MODELS)
def test_datagrams(sockets: Any, model: str) -> None:
    server = sockets.server("echo_server.py", "--model", model, *sockets.address("udp"))
    done = sockets.run("echo_client.py", *server.options, "hello", "", "you")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n\nyou\n", b"")
    with reach(server) as sock:
        for data in (b"", b"x", b"", bytes(65507), b"y"):
            sock.send(data)
            assert sock.recv(65536) == data
    done = sockets.run("echo_client.py", *server.options, "--bytes", 1_000_001)
    assert (done.returncode, done.stdout, done.stderr) == (0, CAME_BACK % 1_000_001, b"")
    server.ctrl_c()


@pytest.mark.parametrize("model", MODELS)
def test_half_closed_gets_everything(sockets: Any, model: str) -> None:
    server = sockets.server("echo_server.py", "--model", model, *sockets.address("tcp"))
    data = os.urandom(1_000_000)
    with reach(server) as sock:
        writer = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(1)))
        writer.start()
        got = b"".join(iter(lambda: sock.recv(65536), b""))
        writer.join()
    assert got == data
    server.ctrl_c()


@pytest.mark.parametrize(
    ("transport", "model"),
    [
        pytest.param(
            transport, model, marks=[] if (transport, model) in quick else pytest.mark.soak
        )
        for quick in [{("tcp", "epoll-et"), ("unix", "thread"), ("udp", "poll")}]
        for transport, model in itertools.product(["tcp", "unix", "udp"], MODELS)
    ],
)
def test_a_hundred_megabytes(sockets: Any, transport: str, model: str) -> None:
    server = sockets.server("echo_server.py", "--model", model, *sockets.address(transport))
    done = sockets.run("echo_client.py", *server.options, "--bytes", 100_000_000)
    assert (done.returncode, done.stdout, done.stderr) == (0, CAME_BACK % 100_000_000, b"")
    server.ctrl_c()


# -- many clients, and bad ones --------------------------------------------------------------------


@pytest.mark.parametrize("model", [model for model in MODELS if model != "fork"])
def test_five_hundred_at_once(sockets: Any, model: str) -> None:
    server = sockets.server("echo_server.py", "--model", model, *sockets.address("unix"))
    with ExitStack() as stack:
        clients = [stack.enter_context(reach(server)) for _ in range(500)]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        for number, client in enumerate(clients):
            assert client.recv(100) == b"%d" % number
    server.ctrl_c()


MANY_OPEN = """
import os, resource, sys
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 4096), limit))
last = 0
while last < int(sys.argv[1]):
    last = os.dup(0)
    os.set_inheritable(last, True)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def crowded(sockets: Any, last: int, model: str) -> list[str]:
    """The command of a server whose descriptors are taken up to a number."""
    python, *rest = sockets.command("echo_server.py", "--model", model, *sockets.address("unix"))
    return [python, "-c", MANY_OPEN, str(last), *rest]


def test_select_refuses_what_it_cannot_watch_and_goes_on(sockets: Any) -> None:
    server = sockets.server("", command=crowded(sockets, 1020, "select"))
    with ExitStack() as stack:
        served = []
        refused = 0
        while refused < 3:
            client = stack.enter_context(reach(server))
            client.settimeout(60)
            try:
                ping(client)
                served.append(client)
            except (AssertionError, ConnectionError):
                refused += 1
        assert served
        for client in served:
            ping(client)
    done = server.end(signal.SIGINT)
    assert done.returncode == 130
    text = done.stderr.decode()
    # Once, and not for each of them.
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    for word in ("1024", "1023", "FD_SETSIZE", "poll", "epoll"):
        assert word in text


def test_select_says_at_once_that_it_cannot_listen_there(sockets: Any) -> None:
    done = sockets.start("", command=crowded(sockets, 1030, "select")).end()
    fails(done, "1023", "poll", "epoll")


def test_others_have_no_such_limit(sockets: Any) -> None:
    server = sockets.server("", command=crowded(sockets, 1030, "epoll-et"))
    with reach(server) as client:
        ping(client)
    server.ctrl_c()


NO_MORE = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize("model", ["poll", "epoll-et", "thread"])
def test_out_of_descriptors_the_next_waits_for_one_to_leave(sockets: Any, model: str) -> None:
    python, *rest = sockets.command("echo_server.py", "--model", model, *sockets.address("unix"))
    server = sockets.server("", command=[python, "-c", NO_MORE, *rest])
    with ExitStack() as stack:
        clients = [stack.enter_context(reach(server)) for _ in range(20)]
        for client in clients:
            client.sendall(b"here")
        for client in clients:
            # In the order in which they came; each leaves its place to one that waits.
            assert client.recv(4) == b"here"
            client.close()
    server.ctrl_c()


def peak(server: Any) -> int:
    """The most memory that a process ever had, in bytes."""
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


@pytest.mark.parametrize("model", ["thread", "poll", "epoll-et", "asyncio"])
def test_one_that_does_not_read_is_not_read_either(sockets: Any, model: str) -> None:
    server = sockets.server("echo_server.py", "--model", model, *sockets.address("unix"))
    total = 60_000_000
    with reach(server) as slow, reach(server) as other:
        ping(slow)
        ping(other)
        before = peak(server)
        writer = threading.Thread(target=slow.sendall, args=[bytes(total)])
        writer.start()
        # A server that would take in everything has taken in much of it by then.
        for _ in range(2000):
            ping(other)
        assert writer.is_alive()
        assert peak(server) - before < total / 3
        got = 0
        while got < total:
            got += len(slow.recv(1 << 20))
        writer.join()
        assert peak(server) - before < total / 3
    server.ctrl_c()


@pytest.mark.parametrize("model", MODELS)
def test_floods_starve_nobody_and_may_be_killed(sockets: Any, model: str) -> None:
    server = sockets.server("echo_server.py", "--model", model, *sockets.address("tcp"))
    floods = [sockets.start("echo_client.py", *server.options, "--bytes", 10**12) for _ in range(2)]
    with reach(server) as small:
        for _ in range(300):
            ping(small)
        for flood in floods:
            assert flood.poll() is None
            flood.kill()
            flood.wait()
        ping(small)
    with reach(server) as late:
        ping(late)
    # Whoever served those that are gone is gone too, and reaped.
    while server.children():
        time.sleep(0.01)
    server.ctrl_c()


def test_children_are_reaped_though_many_end_at_once(sockets: Any) -> None:
    server = sockets.server("echo_server.py", "--model", "fork", *sockets.address("unix"))
    with ExitStack() as stack:
        clients = [stack.enter_context(reach(server)) for _ in range(30)]
        for client in clients:
            ping(client)
        assert len(server.children()) == len(clients)
    while server.children():
        time.sleep(0.01)
    with reach(server) as client:
        ping(client)
        (child,) = server.children()
        # The child goes with the server.
        server.ctrl_c()
        assert client.recv(1) == b""
        assert not Path(f"/proc/{child}").exists()


# -- errors ----------------------------------------------------------------------------------------


GARBAGE = [
    ["echo_server.py", "--transport", "carrier-pigeon"],
    ["echo_server.py", "--model", "hope"],
    ["echo_server.py", "--port", "65536"],
    ["echo_server.py", "--port", "http"],
    ["echo_server.py", "--transport", "unix"],
    ["echo_server.py", "--transport", "unix", "--path", "/x", "--port", "1"],
    ["echo_server.py", "--transport", "tcp", "--path", "/x"],
    ["echo_server.py", "hello"],
    ["echo_client.py", "--bytes", "0"],
    ["echo_client.py", "--bytes", "5", "hello"],
    ["udp_echo_server.py", "--size", "-1"],
    ["udp_echo_client.py", "--timeout", "soon"],
    ["chat_server.py", "--transport", "udp"],
    ["chat_server.py", "--name", ""],
    ["chat_client.py"],
    ["chat_client.py", "--name", "*"],
]


def test_garbage_on_the_command_line(sockets: Any) -> None:
    started = [sockets.start(script, *args) for script, *args in GARBAGE]
    for process in started:
        done = process.end()
        assert done.returncode == 2, done
        assert done.stderr.startswith(b"usage: ")
        assert b"Traceback" not in done.stderr
        assert done.stdout == b""


@pytest.mark.parametrize("transport", ["tcp", "unix", "udp"])
def test_an_address_in_use(sockets: Any, transport: str) -> None:
    server = sockets.server("echo_server.py", *sockets.address(transport))
    again = sockets.start("echo_server.py", *server.options).end()
    why = (
        "a process already listens there" if transport == "unix" else os.strerror(errno.EADDRINUSE)
    )
    fails(again, why, server.where.partition(" ")[2])
    with reach(server) as client:
        ping(client)
    server.ctrl_c()


def test_the_socket_file_of_a_killed_server_is_replaced(sockets: Any) -> None:
    server = sockets.server("echo_server.py", *sockets.address("unix"))
    server.kill()
    server.wait()
    assert Path(server.address).is_socket()
    server = sockets.server("echo_server.py", *server.options)
    with reach(server) as client:
        ping(client)
    server.ctrl_c()


def test_an_address_that_is_none(sockets: Any) -> None:
    for args in (
        ["--host", "no.such.host.invalid"],
        ["--host", "192.0.2.1"],
        ["--transport", "unix", "--path", "/nonexistent/socket"],
    ):
        fails(sockets.start("echo_server.py", *args).end())


@pytest.mark.parametrize("transport", ["tcp", "unix", "udp"])
def test_nobody_listens(sockets: Any, transport: str) -> None:
    server = sockets.server("echo_server.py", *sockets.address(transport))
    server.ctrl_c()
    done = sockets.run("echo_client.py", *server.options, "hello")
    fails(done, server.where.partition(" ")[2])


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_a_server_that_dies_is_an_error_of_its_client(sockets: Any, transport: str) -> None:
    server = sockets.server("echo_server.py", *sockets.address(transport))
    client = sockets.start("echo_client.py", *server.options, stdin=subprocess.PIPE)
    client.type(b"one\n")
    assert client.line() == "one\n"
    flood = sockets.start("echo_client.py", *server.options, "--bytes", 10**12)
    with reach(server) as other:
        ping(other)
    server.kill()
    server.wait()
    client.type(b"two\n")
    fails(client.end(), server.where)
    fails(flood.end(), server.where.partition(" ")[2])


# -- UDP -------------------------------------------------------------------------------------------


def test_udp_shows_truncation_and_empty_datagrams(sockets: Any) -> None:
    server = sockets.server("udp_echo_server.py", "--port", 0, "--size", 8, "--count", 4)
    port = server.options[2:]
    done = sockets.run("udp_echo_client.py", *port, "hello", "", "hello world", "\x1b[2J")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        "5 bytes: hello",
        "0 bytes: an empty datagram, not an end",
        "8 bytes: hello wo",
        "4 bytes: ?[2J",
    ]
    ended = server.end()
    assert (ended.returncode, ended.stderr) == (0, b"")
    said = [line.partition(": ")[2] for line in ended.stdout.decode().splitlines()]
    assert said == [
        "5 bytes: hello",
        "0 bytes: an empty datagram, not an end",
        "11 bytes, cut to 8 (MSG_TRUNC): hello wo",
        "4 bytes: ?[2J",
    ]


def test_udp_client_shows_truncation_of_its_own(sockets: Any) -> None:
    server = sockets.server("udp_echo_server.py", "--port", 0)
    done = sockets.run(
        "udp_echo_client.py", *server.options[2:], "--size", 3, stdin=b"hello\n\nyou\n"
    )
    assert done.stdout.decode().splitlines() == [
        "5 bytes, cut to 3 (MSG_TRUNC): hel",
        "0 bytes: an empty datagram, not an end",
        "3 bytes: you",
    ]
    server.ctrl_c()


def test_udp_sees_that_a_port_is_unreachable(sockets: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        # Bound and silent: nothing comes back, and nothing says that nobody is there.
        silent = sockets.run("udp_echo_client.py", "--port", port, "--timeout", 0.1, "hello")
        fails(silent, "nothing came back", str(port))
    done = sockets.run("udp_echo_client.py", "--port", port, "hello")
    fails(done, f"no process listens on udp 127.0.0.1:{port}", "ICMP", "unreachable")
