"""The commands if /proc hides other users' processes, as on hardened hosts; see proc(5)."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipckit import PosixSharedMemory, SysVMessageQueue, SysVSharedMemory

if TYPE_CHECKING:
    from ipckit.testing import Namespace

# The parent is root's, and imports everything: another user may not reach the files.
SCRIPT = """
import importlib, io, json, os, sys, traceback
from ipckit import cli
for name in cli.COMMANDS:
    importlib.import_module(f"ipckit._cli.commands.{name}")
import locale, numpy
lines = json.loads(sys.argv[1].replace("PARENT", str(os.getpid())))
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    results = []
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    for words in lines:
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO()) for _ in range(2))
        try:
            status = cli.run(words)
        except BaseException:
            status = -1
            traceback.print_exc()
        outputs = []
        for each in (sys.stdout, sys.stderr):
            each.flush()
            outputs.append(each.buffer.getvalue().decode())
        results.append([words, status, *outputs])
    with open(writer, "w") as pipe:
        json.dump(results, pipe)
    os._exit(0)
os.close(writer)
with open(reader) as pipe:
    text = pipe.read()
assert os.waitpid(child, 0)[1] == 0
sys.stdout.write(text)
"""
MOUNT = 'mount --make-rprivate / && mount -t proc -o "$0" proc /proc && exec "$@"'


NO_PROC = 'mount --make-rprivate / && mount -t tmpfs none /proc && exec "$@"'


def run_hidden(options: str, *lines: list[str]) -> dict[str, tuple[int, str, str]]:
    """What command lines give another user where /proc is mounted with options, or not at all."""
    mount = MOUNT if options else NO_PROC
    inside = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", mount, options]
    program = [sys.executable, "-W", "error", "-c", SCRIPT, json.dumps(lines)]
    done = subprocess.run([*inside, *program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {
        " ".join(words): (status, out, err) for words, status, out, err in json.loads(done.stdout)
    }


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("options", ["hidepid=invisible", "hidepid=noaccess", "subset=pid"])
def test_the_commands_work_with_less_to_see(options: str, ns: Namespace) -> None:
    with (
        SysVMessageQueue.create(ns.key(), mode=0o666) as queue,
        SysVSharedMemory.create(ns.key(), 64, mode=0o666) as segment,
        PosixSharedMemory.create(ns.name(), 64, mode=0o644) as memory,
    ):
        queue.send(b"hello")
        q, m, shm = f"q:{queue.id}", f"m:{segment.id}", f"shm:{memory.name}"
        found = run_hidden(
            options,
            *(["ls"], ["ls", "--wide"], ["ls", "--json"], ["gc"], ["stat", q], ["stat", shm]),
            *(["peek", q], ["dump", m], ["dump", shm], ["limits"], ["limits", "--json"]),
            *(["limits", "--pid", "PARENT"], ["limits", "--pid", "2147483647"]),
            *(["doctor"], ["doctor", "--json"], ["doctor", "--peer", "PARENT"]),
            *(["doctor", "--peer", "2147483647"], ["top", "--once", "--interval", "0.05"]),
            *(["ps"], ["ps", "PARENT"], ["ps", "2147483647"], ["ls", "--pid", "PARENT"]),
            *(["rm", "--yes", q], ["rm", "--yes", m], ["rm", "--yes", shm]),
        )
        for words, (status, out, err) in found.items():
            assert status in {0, 1, 3, 4}, (words, out, err)
            assert "Traceback" not in out + err, (words, err)
            assert "Errno" not in err, (words, err)
        for words in ("ls", "ls --wide", "gc", f"stat {q}", f"peek {q}", f"dump {m}", "limits"):
            assert found[words][0] == 0, (words, found[words])
        assert q in found["ls"][1]
        rows = {row["name"]: row["value"] for row in json.loads(found["limits --json"][1])}
        assert rows["RLIMIT_NOFILE"] is not None
        assert "no such process" in found["limits --pid 2147483647"][2]
        assert "no such process" in found["doctor --peer 2147483647"][2]
        assert "no such process" in found["ps 2147483647"][2]
        assert found["ps"][0] == 0
        # Root's objects stay, and those that a process out of sight may hold are not orphaned.
        assert all(found[f"rm --yes {each}"][0] in {1, 3} for each in (q, m, shm))
        assert q not in found["gc"][1]
        assert queue.stat().id == queue.id
        of_parent = found[next(words for words in found if words.startswith("limits --pid"))]
        if options == "subset=pid":
            assert of_parent[0] == 0
        else:
            assert "/proc hides" in of_parent[2]
            assert "hidepid" in found["ls"][2]
            shown = next(err for words, (_, _, err) in found.items() if words.startswith("ps "))
            assert "/proc hides it" in shown
            peer = next(out for words, (_, out, _) in found.items() if "--peer" in words)
            assert "unseen" in peer


@pytest.mark.usefixtures("root")
def test_the_commands_work_without_proc(ns: Namespace) -> None:
    path = f"/var/tmp/ipckit-{ns.name()[1:]}.sock"  # noqa: S108 - where ls searches
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    try:
        lines = (["ls", "--json"], ["gc", "--kind", "socket"], ["ps"], ["limits"], ["doctor"])
        found = run_hidden("", *lines, ["top", "--once", "--interval", "0.05"])
    finally:
        Path(path).unlink()
    for words, (status, out, err) in found.items():
        assert status in {0, 1, 4}, (words, out, err)
        assert "Errno" not in err, (words, err)
    for words in ("ls --json", "gc --kind socket", "ps", "limits"):
        assert found[words][0] == 0, (words, found[words])
    listed = {each["address"]: each for each in json.loads(found["ls --json"][1])["objects"]}
    assert listed[f"socket:{path}"]["state"] == "unknown"
    assert "RLIMIT_NOFILE" in found["limits"][1]
