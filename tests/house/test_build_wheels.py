"""tools/build_wheels.py: the names of wheels, and what serves or loads which."""

from __future__ import annotations

from pathlib import Path

import build_wheels
import pytest

import ipckit._native as native

PROMISED = "manylinux_2_28_x86_64"


@pytest.mark.parametrize(
    ("needed", "serves"),
    [
        *(("manylinux_2_17_x86_64", True), ("manylinux_2_28_x86_64", True)),
        *(("manylinux_2_5_x86_64", True), ("manylinux_2_34_x86_64", False)),
        *(("manylinux_3_0_x86_64", False), ("manylinux_2_17_aarch64", False)),
        *(("musllinux_1_2_x86_64", False), ("linux_x86_64", False)),
    ],
)
def test_an_older_c_library_serves(needed: str, *, serves: bool) -> None:
    assert build_wheels.serves(needed, PROMISED) is serves


@pytest.mark.parametrize("platform", build_wheels.PLATFORMS, ids=lambda each: each.tag)
def test_the_names_of_a_wheel(
    platform: build_wheels.Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_wheels, "free_threaded", lambda: False)
    assert build_wheels.wheel_tag(platform) == f"cp311-abi3-{platform.tag}"
    assert build_wheels.module_name(platform) == "_native.abi3.so"
    monkeypatch.setattr(build_wheels, "free_threaded", lambda: True)
    assert build_wheels.wheel_tag(platform).endswith(f"t-{platform.tag}")
    assert platform.multiarch in build_wheels.module_name(platform)


def test_every_c_library_loads_the_module() -> None:
    assert not build_wheels.needs_static_tls(Path(native.__file__))


def test_thread_local_variables_that_musl_refuses_are_found(tmp_path: Path) -> None:
    source = tmp_path / "static.c"
    source.write_text(
        '_Thread_local int value __attribute__((tls_model("initial-exec")));\n'
        "int get(void) { return value; }\n"
    )
    built = source.with_suffix(".so")
    build_wheels.run("cc", "-shared", "-fPIC", source, "-o", built)
    assert build_wheels.needs_static_tls(built)
