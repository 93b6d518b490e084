"""The recipe for pandas in docs/shared-memory.md shares what it says."""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = re.compile(r"^```py\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def recipe(repository: Path, index: int) -> dict[str, Any]:
    page = (repository / "docs/shared-memory.md").read_text()
    section = page.partition("\n### pandas\n")[2].partition("\n## ")[0]
    programs = PROGRAM.findall(section)
    assert len(programs) == 2
    scope: dict[str, Any] = {}
    exec(compile(programs[index], "<page>", "exec", dont_inherit=True), scope)  # noqa: S102
    return scope


def test_columns_are_shared_without_a_copy(repository: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed; pip install pandas")
    functions = recipe(repository, 0)
    frame = pandas.DataFrame(
        {
            "price": [1.5, 2.5, np.nan],
            "count": [1, 2, 3],
            "day": pandas.date_range("2020", periods=3),
        },
        index=[10, 20, 30],
    )
    shared = functions["to_shared"](frame)
    copied = pickle.loads(pickle.dumps(shared))  # noqa: S301
    made = functions["from_shared"](copied)
    pandas.testing.assert_frame_equal(made, frame)
    shared[0]["count"].array[1] = 7
    assert made["count"].tolist() == [1, 7, 3]
    with pytest.raises(TypeError, match="references to Python objects"):
        functions["to_shared"](pandas.DataFrame({"name": ["amy", "bob"]}))


def test_tables_with_text_are_shared_in_arrow_format(repository: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed; pip install pandas")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed; pip install pyarrow")
    functions = recipe(repository, 1)
    frame = pandas.DataFrame({"name": ["amy", None], "age": [20, 31]}, index=["x", "y"])
    shared = functions["to_shared_arrow"](frame)
    copied = pickle.loads(pickle.dumps(shared))  # noqa: S301
    pandas.testing.assert_frame_equal(functions["from_shared_arrow"](copied), frame)
