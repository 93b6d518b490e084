"""Thousands of generated structs: gcc and clang agree with ipckit on every place and value."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from c_structs import check, struct_types, swapped
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ipckit.structs import StructType, c_header

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]
SETTINGS = settings(
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
C = ("c99", "gnu99", "c11", "gnu11", "gnu17", "c2x")
CPP = ("c++11", "gnu++11", "c++14", "c++17", "gnu++17", "gnu++20", "c++2b")
DIALECTS = [
    *((compiler, std) for compiler in ("gcc", "clang") for std in C),
    *((compiler, std) for compiler in ("g++", "clang++") for std in CPP),
]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@settings(SETTINGS, max_examples=150)
@given(made=st.lists(struct_types(), min_size=20, max_size=30))
def test_compilers_agree_on_places_and_values(
    build: Path, compiler: str, made: list[StructType]
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    check(made, compiler, build)


@pytest.mark.parametrize(("compiler", "std"), DIALECTS)
@settings(SETTINGS, max_examples=60)
@given(struct=st.one_of(struct_types(), struct_types().map(swapped)))
def test_compilers_accept_headers(compiler: str, std: str, struct: StructType) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    language = "c++" if "++" in std else "c"
    command = [compiler, f"-std={std}", "-x", language, "-fsyntax-only", "-Wall", "-Wextra"]
    header = c_header(struct)
    done = subprocess.run(
        [*command, "-Werror", "-"], input=header * 2, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\n{header}"
