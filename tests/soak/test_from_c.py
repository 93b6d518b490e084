"""Thousands of generated structs: `from_c` has gcc's layout and values for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from generated_c import Case, c_cases, differences
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gcc")


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(c_cases(), min_size=20, max_size=30))
def test_gcc_agrees_on_two_thousand_structs(build: Path, cases: list[Case]) -> None:
    found = differences(cases, build)
    assert not found, "\n\n".join(found)
