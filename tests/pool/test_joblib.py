"""The backend of joblib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("joblib")

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child

HERE = str(Path(__file__).parent)
SETUP = """
    import sys
    sys.path.insert(0, args[0])
    import numpy as np
    import pool_tasks as tasks
    from joblib import Parallel, delayed, parallel_backend
    from ipckit.pool import WorkerDied, register_joblib
    register_joblib()
"""


def test_parallel_runs_in_the_pool(spawn: Callable[..., Child]) -> None:
    code = (
        SETUP
        + """
    with parallel_backend("ipckit", n_jobs=2):
        result = [Parallel()(delayed(tasks.add)(n, 1) for n in range(200)) == list(range(1, 201))]
        array = np.ones(1 << 20)
        result.append(Parallel()(delayed(lambda x: x.sum())(array) for _ in range(4)))
        result.append(len(set(Parallel()(delayed(tasks.pid_after)(0.1) for _ in range(4)))))
        try:
            Parallel()(delayed(tasks.fail)("here") for _ in range(20))
        except RuntimeError as exc:
            result.append(str(exc))
        try:
            Parallel()(delayed(tasks.die)() for _ in range(2))
        except WorkerDied as exc:
            result.append(exc.signal)
        result.append(Parallel()(delayed(tasks.add)(n) for n in range(3)))
        pids = set()
        for _ in range(3):
            pids.update(Parallel()(delayed(tasks.pid_after)(0.05) for _ in range(4)))
        result.append(len(pids))  # the workers stay from one call to the next
    found = Parallel(n_jobs=2, backend="ipckit", return_as="generator")(
        delayed(tasks.add)(n) for n in range(5)
    )
    result.append(list(found))
    result.append(Parallel(n_jobs=1, backend="ipckit")(delayed(tasks.add)(n) for n in range(5)))
    """
    )
    # Not -W error: joblib and numpy are not tested here.
    child = spawn(code, HERE, options=("-X", "faulthandler"))
    child.wait(60)
    expected = [True, [1 << 20] * 4, 2, "here", 9, [0, 1, 2], 2, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
    assert child.result == expected


def test_options_of_the_pool(spawn: Callable[..., Child], tmp_path: Path) -> None:
    code = (
        SETUP
        + """
    from pathlib import Path
    with parallel_backend("ipckit", n_jobs=2, retries=2, mp_context="fork"):
        result = Parallel()(delayed(tasks.die_until)(Path(args[1]), 3) for _ in range(1))
    """
    )
    child = spawn(code, HERE, str(tmp_path / "runs"), options=("-X", "faulthandler"))
    assert child.result == [3]


@pytest.mark.soak
def test_scikit_learn(spawn: Callable[..., Child]) -> None:
    pytest.importorskip("sklearn")
    code = (
        SETUP
        + """
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    x, y = load_iris(return_X_y=True)
    search = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1, 10]}, n_jobs=2)
    alone = search.fit(x, y).best_score_
    with parallel_backend("ipckit", n_jobs=2):
        result = search.fit(x, y).best_score_ == alone
    """
    )
    child = spawn(code, HERE, options=("-X", "faulthandler"))
    child.wait(100)
    assert child.result is True
