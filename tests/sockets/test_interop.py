"""UNIX sockets between ipckit and programs that its authors did not write."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Abstract, Framed, LengthPrefixed, connect, listen, pair, read_line
from ipckit.testing import require

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from ipckit.testing import Child, Namespace

C_SOURCE = r"""
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <fcntl.h>
/* Connects, sends two ends of a pipe, and gets a file whose text it writes into the pipe. */
int main(int argc, char **argv)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_SEQPACKET, 0), ends[2], got = -1;
    char byte = 'p', text[64];
    union { struct cmsghdr head; char room[CMSG_SPACE(2 * sizeof(int))]; } control = {0};
    struct iovec part = {&byte, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                       .msg_controllen = CMSG_SPACE(sizeof(int))};
    if (argc != 2 || pipe(ends)) return 1;
    strncpy(to.sun_path, argv[1], sizeof to.sun_path - 1);
    if (connect(s, (struct sockaddr *)&to, sizeof to)) return 2;
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.head), &ends[0], sizeof(int));
    if (sendmsg(s, &m, 0) != 1) return 3;
    m.msg_controllen = sizeof control;
    if (recvmsg(s, &m, 0) != 1 || byte != 'f') return 4;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (!c || c->cmsg_type != SCM_RIGHTS) return 5;
    memcpy(&got, CMSG_DATA(c), sizeof(int));
    ssize_t n = read(got, text, sizeof text);
    return n > 0 && write(ends[1], text, (size_t)n) == n ? 0 : 6;
}
"""


@pytest.fixture
def start() -> Generator[Callable[..., subprocess.Popen[bytes]]]:
    """Start programs, which must end well."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*argv: object, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            list(map(str, argv)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        try:
            process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
        assert process.returncode in {0, None}


@pytest.mark.parametrize("kind", ["stream", "seqpacket"])
@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_socat_connects(
    ns: Namespace,
    start: Callable[..., Any],
    kind: Any,
    abstract: bool,  # noqa: FBT001
) -> None:
    socat = require("socat", package="socat")
    name = ns.name()[1:]
    address = Abstract(name) if abstract else ns.path()
    where = f"ABSTRACT-CONNECT:{name}" if abstract else f"UNIX-CONNECT:{address}"
    number = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET}[kind]
    with listen(address, kind) as listener:
        process = start(socat, "STDIO", f"{where},type={int(number)}")
        with listener.accept(timeout=60) as sock:
            assert sock.peer.pid == process.pid
            process.stdin.write(b"from socat")
            process.stdin.flush()
            assert sock.receive(timeout=60).data == b"from socat"
            sock.send(b"from ipckit")
            assert os.read(process.stdout.fileno(), 100) == b"from ipckit"


def test_socat_sends_datagrams(ns: Namespace, start: Callable[..., Any]) -> None:
    socat = require("socat", package="socat")
    path = ns.path()
    with listen(path, "dgram") as server:
        process = start(socat, "-u", "STDIO", f"UNIX-SENDTO:{path}")
        process.communicate(b"one datagram", timeout=60)
        assert server.receive(timeout=60).data == b"one datagram"


def test_nc_connects(ns: Namespace, start: Callable[..., Any]) -> None:
    nc = require("nc", package="netcat-openbsd")
    path = ns.path()
    with listen(path) as listener:
        process = start(nc, "-U", path)
        with listener.accept(timeout=60) as sock:
            process.stdin.write(b"a line\nanother\n")
            process.stdin.flush()
            assert read_line(sock, timeout=60) == b"a line\n"
            sock.send(b"answer")
            assert os.read(process.stdout.fileno(), 100) == b"answer"


@pytest.mark.parametrize("kind", ["stream", "seqpacket", "dgram"])
def test_the_standard_library_passes_descriptors(kind: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"text")
    first, second = pair(kind)
    with first, second, file.open("rb") as opened:
        socket.send_fds(first.socket, [b"x"], [opened.fileno(), opened.fileno()])
        with second.receive(max_fds=2) as packet:
            assert [os.pread(fd, 10, 0) for fd in packet.fds] == [b"text"] * 2
        second.send(b"y", fds=[opened])
        data, fds, _, _ = socket.recv_fds(first.socket, 10, 2)
        assert (data, os.pread(fds[0], 10, 0)) == (b"y", b"text")
        os.close(fds[0])


def test_multiprocessing_passes_descriptors() -> None:
    first, second = pair()
    with first, second, open(os.devnull) as opened:  # noqa: PTH123
        reduction.sendfds(first.socket, [opened.fileno()])
        with second.receive(1, max_fds=1) as packet:
            assert packet.data == b"\1"
            assert os.path.sameopenfile(packet.fds[0], opened.fileno())
        second.send(b"A")  # what it takes for an answer
        assert first.receive().data == b"A"
        second.send(b"\1", fds=[opened])
        (fd,) = reduction.recvfds(first.socket, 1)
        assert os.path.sameopenfile(fd, opened.fileno())
        os.close(fd)


def test_a_c_program_passes_descriptors(ns: Namespace, start: Callable[..., Any]) -> None:
    gcc = require("gcc", package="gcc")
    source, program, text = ns.path(".c"), ns.path(), ns.path()
    source.write_text(C_SOURCE)
    text.write_bytes(b"through a descriptor")
    subprocess.run([gcc, "-Wall", "-Werror", "-o", program, source], check=True, timeout=60)
    with listen(ns.path(), "seqpacket") as listener, text.open("rb") as file:
        start(program, listener.address)
        sock = listener.accept(timeout=60)
        with sock, sock.receive(max_fds=1, timeout=60) as packet:
            assert packet.data == b"p"
            sock.send(b"f", fds=[file])
            assert os.read(packet.fds[0], 100) == b"through a descriptor"


def test_multiprocessing_connection_frames(ns: Namespace, spawn: Callable[..., Child]) -> None:
    code = """
        from multiprocessing.connection import Client
        with Client(args[0], "AF_UNIX") as connection:
            connection.send_bytes(b"hello")
            result = connection.recv_bytes()
    """
    with listen(ns.path()) as listener:
        child = spawn(code, str(listener.address))
        with Framed(listener.accept(timeout=60), LengthPrefixed(">i")) as stream:
            assert stream.receive(timeout=60) == b"hello"
            stream.send(b"answer")
        assert child.result == b"answer"


def test_systemd_starts_a_server_with_its_sockets(ns: Namespace, start: Callable[..., Any]) -> None:
    activate = require("systemd-socket-activate", package="systemd")
    path = ns.path()
    server = (
        "import ipckit\n"
        "((name, listener),) = ipckit.inherited()\n"
        "with listener, listener.accept(timeout=60) as sock:\n"
        "    sock.send(f'{name} {type(listener).__name__} {listener.owner}'.encode())\n"
    )
    command = [activate, "--listen", path, "--fdname", "web", sys.executable, "-c", server]
    start(*command, stderr=subprocess.PIPE)
    client = None
    while client is None:
        try:
            client = connect(path, timeout=60)
        except (FileNotFoundError, ConnectionError):
            continue  # it has not bound yet
    with client:
        assert client.receive(timeout=60).data == b"web UnixListener False"
    path.unlink()


def test_the_notify_socket_knows_who_notifies(ns: Namespace) -> None:
    notify = require("systemd-notify", package="systemd")
    path = ns.path()
    with listen(path, "dgram") as server:
        server.pass_credentials = True
        process = subprocess.Popen(
            [notify, "--pid=self", "--ready", "--status=up"],
            env={**os.environ, "NOTIFY_SOCKET": str(path)},
        )
        packet = server.receive(max_fds=1, timeout=60)
        assert b"READY=1" in packet.data.splitlines()
        assert b"STATUS=up" in packet.data
        assert packet.credentials is not None
        assert (packet.credentials.pid, packet.credentials.uid) == (process.pid, os.getuid())
        while b"BARRIER=1" not in packet.data:  # its pipe is closed with the packet
            packet = server.receive(max_fds=1, timeout=60)
        assert packet.credentials is not None
        assert packet.credentials.pid == process.pid
        packet.close()
        assert process.wait(60) == 0
