"""A struct that `from_c` reads has gcc's layout and values, for generated structs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from generated_c import Case, c_cases, differences
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gcc")


@settings(
    max_examples=3,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # the soak test shrinks what it finds
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(c_cases(), min_size=25, max_size=30))
def test_gcc_agrees_on_layout_and_values(build: Path, cases: list[Case]) -> None:
    found = differences(cases, build)
    assert not found, "\n\n".join(found)
