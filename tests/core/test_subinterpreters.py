"""Isolated subinterpreters, each with its own GIL since Python 3.12, and a free-threaded Python.

Python 3.11 has isolated subinterpreters too, but with one GIL for all. Each test runs in a process
of its own: a subinterpreter that fails could end the tests.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import textwrap

import pytest

pytest.importorskip("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")

# Pages that import ctypes do not work there with Python 3.12.
needs_ctypes = pytest.mark.skipif(
    sys.version_info[:2] == (3, 12),
    reason="the ctypes of Python 3.12 does not support isolated subinterpreters",
)

FUNCTIONS = """
import os
import sys
import threading

if sys.version_info >= (3, 13):
    import _interpreters
    create = _interpreters.create
else:
    import _xxsubinterpreters as _interpreters
    def create():
        return _interpreters.create(isolated=True)

def run(interpreter, code):
    if sys.version_info >= (3, 13):
        failed = _interpreters.exec(interpreter, code)
        if failed is not None:
            raise RuntimeError(failed.errdisplay)
    else:
        _interpreters.run_string(interpreter, code)

def run_alone(code):
    interpreter = create()
    run(interpreter, code)
    _interpreters.destroy(interpreter)

def run_at_once(codes):
    "Run each code in a thread and an interpreter of its own."
    failed = []
    def work(code):
        try:
            run_alone(code)
        except BaseException as exc:
            failed.append(exc)
    threads = [threading.Thread(target=work, args=(code,)) for code in codes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
"""

USES = {
    "semaphores": """
from ipckit.sem import SysVSemaphoreSet
with SysVSemaphoreSet.create(values=[1, 0]) as semaphores:
    with semaphores[0]:
        assert semaphores.values == [0, 0]
    assert semaphores.values == [1, 0]
""",
    "message queue": """
from ipckit import Int32, Struct, SysVMessageQueue
class Point(Struct):
    x: Int32
    y: Int32
with SysVMessageQueue.create(type=Point) as queue:
    queue.send(Point(x=1, y=2), mtype=3)
    assert queue.receive().value == Point(x=1, y=2)
""",
    "channel": """
from ipckit import Channel, Int32, Struct
class Point(Struct):
    x: Int32
    y: Int32
with Channel.anonymous(Point) as channel:
    channel.send(Point(x=1, y=2))
    assert channel.receive() == Point(x=1, y=2)
""",
    "topic": """
from ipckit import Topic
with Topic.anonymous() as topic, topic.subscribe() as subscription:
    topic.publish(b"x")
    assert subscription.receive() == b"x"
""",
}


def alone(code: str, *options: str) -> str:
    """Return what the code prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, *options, "-c", FUNCTIONS + code],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    "use",
    [
        "semaphores",
        *(pytest.param(use, marks=needs_ctypes) for use in ("message queue", "channel", "topic")),
    ],
)
def test_a_subinterpreter_can_use(use: str) -> None:
    assert alone(f"run_alone({USES[use]!r})") == ""


@needs_ctypes
def test_the_classes_of_an_interpreter_outlive_the_others() -> None:
    every = "".join(USES.values())
    assert alone(f"{every}\nfor _ in range(3):\n    run_alone({every!r})\n{every}") == ""


def test_interpreters_exclude_each_other_with_a_semaphore() -> None:
    """The undo counts of a semaphore belong to the process, so to all of its interpreters."""
    work = textwrap.dedent("""
        import os
        from ipckit.sem import SysVSemaphoreSet
        with SysVSemaphoreSet.from_id({id}) as semaphores:
            for _ in range(300):
                with semaphores[0]:
                    count = int.from_bytes(os.pread({file}, 4, 0), "little")
                    os.pwrite({file}, (count + 1).to_bytes(4, "little"), 0)
    """)
    code = f"""
from ipckit.sem import SysVSemaphoreSet
file = os.memfd_create("count")
os.pwrite(file, bytes(4), 0)
with SysVSemaphoreSet.create() as semaphores:
    run_at_once([{work!r}.format(id=semaphores.id, file=file)] * 3)
    print(int.from_bytes(os.pread(file, 4, 0), "little"), semaphores.values)
"""
    assert alone(code) == "900 [1]\n"


@needs_ctypes
def test_interpreters_send_at_once() -> None:
    """The open channels of all interpreters are in one list."""
    work = textwrap.dedent("""
        from ipckit import Channel
        for number in range(100):
            with Channel.open({name!r}) as channel:
                if number % 10 == 0:
                    channel.fileno()
                channel.send(b"x")
    """)
    code = f"""
from ipckit import Channel
name = f"/ipckit-test-{{os.getpid()}}"
with Channel.create(name, capacity=1024) as channel:
    run_at_once([{work!r}.format(name=name)] * 3)
    print(len(channel.receive_many()), len(channel.peers()))
"""
    assert alone(code) == "300 1\n"


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this is no free-threaded Python"
)
def test_a_free_threaded_python_enables_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHON_GIL", raising=False)
    code = "import ipckit; print(sys._is_gil_enabled())"
    assert alone(code, "-W", "ignore::RuntimeWarning") == "True\n"
