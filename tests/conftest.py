"""What tests of several packages use: names, children, scripts, signals; a check for leftovers."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import quick_python
from command_line import run_commands
from script_runs import Scripts
from sleeping_calls import Call, Signals

from ipckit.testing import Child, Namespace, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from command_line import Result

# Set once this run is in namespaces of its own, or by hand for a run that shall stay outside.
UNSHARED = "IPCKIT_TEST_UNSHARED"

# Where trio is installed hypothesis would import it, and complain of how it sets it up.
os.environ["HYPOTHESIS_NO_PLUGINS"] = "1"

# The files and folders that start first. The tests of process_queue fork thousands of times, and a
# fork takes several times as long late in a run, when the process has more memory. The others have
# few tests that take long: started last, they would leave one worker idle at the end.
_FIRST = (
    *("tests/process_queue/", "tests/verify/", "tests/ring/", "tests/typing/"),
    *("tests/core/test_interop_cpython.py", "tests/house/test_stubs.py"),
)

_FAILED = pytest.StashKey[bool]()


def _enter_namespaces(config: pytest.Config) -> None:
    """Start this run again in IPC and mount namespaces of its own, where that is possible.

    The check for leftovers sees the whole system's objects: without this, whatever
    another program on the machine makes at the same time would fail a test here.
    """
    if UNSHARED in os.environ or os.geteuid() != 0 or hasattr(config, "workerinput"):
        return
    unshare = shutil.which("unshare")
    setup = 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && exec "$@"'
    command = [unshare or "", "--ipc", "--mount", "sh", "-c", setup, "sh"]
    if unshare is None:
        return
    trial = subprocess.run([*command, "true"], check=False, capture_output=True)
    if trial.returncode != 0:
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[UNSHARED] = "1"
    os.execv(unshare, [*command, sys.executable, *sys.orig_argv[1:]])  # noqa: S606


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    _enter_namespaces(config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let the second worker collect the folders and files in the opposite order.

    Most of the time of a collection goes into rewriting asserts. In a clean checkout, each worker
    then rewrites half of the files, and finds the bytecode of the other half.
    """
    report = yield
    second = os.environ.get("PYTEST_XDIST_WORKER") == "gw1"
    if second and isinstance(collector, (pytest.Session, pytest.Directory)):
        report.result.reverse()
    return report


def _file_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files of `_FIRST` first, then those with the most tests; the same in each worker.

    Workers take tests in this order; see run.sh. The order within a file stays.
    """
    tests = Counter(map(_file_of, items))

    def rank(item: pytest.Item) -> tuple[int, int, str]:
        file = _file_of(item)
        places = (place for place, start in enumerate(_FIRST) if file.startswith(start))
        return next(places, len(_FIRST)), -tests[file], file

    items.sort(key=rank)


def _leave_out_of_collections() -> None:
    """Collect garbage, and leave what exists now out of the collections that follow.

    Each test needs two collections, and they would take longer the more the tests before it have
    imported and reported: 4 ms at the start of a run, and 150 ms at its end.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    _leave_out_of_collections()
    quick_python.install()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Let pytest's own last collection find what became garbage after it was left out."""
    quick_python.remove()
    gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves an IPC object, a descriptor or a child process behind."""
    _leave_out_of_collections()
    before = snapshot()
    yield
    if request.node.stash.get(_FAILED, False):
        return  # the traceback keeps the test's objects alive
    for thread in threading.enumerate():
        # A notification's thread ends by itself after `close`, and closes its socket then.
        if thread.name.startswith("ipckit-"):
            thread.join(30)
    gc.collect()
    left = before.diff(snapshot())
    if left:
        pytest.fail("left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture
def ns(request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """Keys, names and paths of the test's own.

    Objects left under them fail the test, files do not; a test that leaves some
    on purpose says so with ``ns.clear()``.
    """
    with Namespace() as namespace:
        yield namespace
        left = namespace.leftovers()
        left = [line for line in left if not line.startswith(str(namespace.directory))]
    if left and not request.node.stash.get(_FAILED, False):
        pytest.fail("left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture
def spawn(request: pytest.FixtureRequest) -> Iterator[Callable[..., Child]]:
    """Start children as `Child` does, or take one that `Child.call` started.

    At the end each is put away, and must have ended well unless the test killed it.
    """
    children: list[Child] = []

    def start(code: str | Path | Child, *args: object, **options: Any) -> Child:
        child = code if isinstance(code, Child) else Child(code, *args, **options)
        children.append(child)
        return child

    yield start
    failed = request.node.stash.get(_FAILED, False)
    with contextlib.ExitStack() as stack:
        for child in children:
            # Each is put away, whatever becomes of the others.
            stack.callback(child.close if failed else child.finish)
    if failed:
        for child in children:
            request.node.add_report_section("teardown", f"child {child.pid}", child.report())


@pytest.fixture
def begin() -> Callable[..., Call]:
    """Start a call in another thread."""
    return Call


@pytest.fixture
def signals() -> Iterator[Signals]:
    """Handle SIGUSR1 during the test, and send it to a call that sleeps."""
    told = Signals()
    with told.handled(told.handle):
        yield told


@pytest.fixture
def commands(spawn: Callable[..., Child]) -> Callable[..., list[Result]]:
    """Run several command lines in one new process; see `run_commands`."""

    def run(*lines: Sequence[object], **options: Any) -> list[Result]:
        return run_commands(spawn, lines, **options)

    return run


@pytest.fixture
def scripts(ns: Namespace) -> Iterator[Scripts]:
    """Run the scripts from a directory of the test's own."""
    runner = Scripts(ns.directory)
    yield runner
    runner.close()


@pytest.fixture
def exec_only() -> Iterator[None]:
    """Start Python by an exec, for a test that is about that, or about what it then imports."""
    with quick_python.exec_only():
        yield


@pytest.fixture
def root() -> None:
    """Skip a test that takes root where the run has not got it; CI has."""
    if os.geteuid() != 0:
        pytest.skip("takes root")


@pytest.fixture
def repository() -> Path:
    """The directory of the working copy."""
    return Path(__file__).resolve().parent.parent
