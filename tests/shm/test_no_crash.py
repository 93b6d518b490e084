"""No sequence of Python calls crashes the interpreter: a hunt for one, in a child interpreter.

Left out: a file cut by something other than ipckit under a mapping of it, which no user of mmap
can guard against, and `release` of the memoryview that numpy keeps as an array's base.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from ipckit.testing import Child, Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER = Path(__file__).with_name("memory_worker.py")
ATTACKS = [WORKER.with_name(name) for name in ("memory_attacks.py", "memory_garbage.py")]

NAMES = {
    name: path
    for path in ATTACKS
    for name in re.findall(r"^def (\w+)\(place: Path\) -> None:", path.read_text(), re.MULTILINE)
}

STEPS = (
    *("create", "create", "again", "remap", "close", "unlink", "forget", "array", "array"),
    *("struct", "shared", "store", "buf", "slice", "reshape", "retype", "memoryview", "release"),
    *("base", "exporter_close", "frombuffer", "from_mapping", "writeable", "drop", "cycle", "gc"),
    *("protect", "resize", "resize", "refresh", "seal", "advise", "flush", "read", "write"),
    *("lock", "pickle", "fork"),
)
NUMBER = st.integers(0, 100)
SLOWLY = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.fixture
def worker() -> Iterator[Child]:
    with Child(WORKER) as child:
        yield child
        child.tell("stop")


@pytest.fixture(scope="module")
def attacks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of each attack, all made in forks of one interpreter."""
    found: dict[str, str] = {}
    with Child(WORKER) as child:
        for name, path in NAMES.items():
            before = len(child.stderr)
            child.tell(("attack", str(path), name, str(tmp_path_factory.mktemp(name))))
            answer = child.hear(60)
            found[name] = f"{answer}" if answer == "end" else f"{answer}\n{child.stderr[before:]}"
        child.tell("stop")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_attack(attacks: dict[str, str], name: str) -> None:
    assert attacks[name] == "end"


class Hunt(RuleBasedStateMachine):
    """Steps in a fork of the worker, which must answer each, and end well."""

    worker: ClassVar[Child]

    def __init__(self) -> None:
        super().__init__()
        self.ns = Namespace()
        self.alive = True
        names = [self.ns.name() for _ in range(2)]
        keys = [self.ns.key() for _ in range(2)]
        paths = [str(self.ns.path()) for _ in range(2)]
        self.worker.tell(("hunt", names, keys, paths))

    def answer(self) -> Any:
        answer = self.worker.hear()
        if isinstance(answer, tuple):
            self.alive = False
            pytest.fail(f"the interpreter died of {answer[1]}:\n{self.worker.stderr[-4000:]}")
        return answer

    @rule(name=st.sampled_from(STEPS), a=NUMBER, b=NUMBER, c=NUMBER)
    def step(self, name: str, a: int, b: int, c: int) -> None:
        self.worker.tell((name, a, b, c))
        self.answer()

    def teardown(self) -> None:
        try:
            if self.alive:
                self.worker.tell("end")
                assert self.answer() == "end"
        finally:
            self.ns.clear()


def hunt(worker: Child, examples: int, steps: int) -> None:
    class Here(Hunt):
        pass

    Here.worker = worker
    phases = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=SLOWLY,
        phases=phases,
        print_blob=True,
    )
    run_state_machine_as_test(Here, settings=how)


@pytest.mark.timeout(900)  # for the search of the shortest example, where there is one
def test_no_sequence_of_calls_crashes(worker: Child) -> None:
    hunt(worker, 25, 40)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_no_sequence_of_calls_crashes_for_long(worker: Child) -> None:
    hunt(worker, 4000, 100)


@pytest.mark.parametrize(
    "made",
    ["MemFd.create('x', 4096)", "MappedFile.anonymous(4096)", "SysVSharedMemory.create(size=4096)"],
)
@pytest.mark.parametrize("look", ["memory.buf", "memory.buf[8:]"])
def test_numpy_over_a_buf_outlives_the_handle(made: str, look: str) -> None:
    # numpy.ndarray takes what is behind a memoryview for its base, and drops the memoryview.
    code = f"""
        import numpy as np
        from ipckit import MappedFile, MemFd, SysVSharedMemory
        memory = {made}
        memory.write(b"x" * 4096)
        array = np.ndarray(4000, np.uint8, buffer={look})
        memory.unlink(missing_ok=True)
        memory.close()
        result = int(array.sum())
    """
    with Child(code) as child:
        assert child.result == ord("x") * 4000
