from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.analysis
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SEEN = HERE / "seen.py"
REFUSED = HERE / "refused.txt"  # not .py, so that `make check` does not meet its errors
EXPECTED = {
    number
    for number, line in enumerate(REFUSED.read_text().splitlines(), 1)
    if line.endswith("# refused")
}


def copies(tmp_path: Path) -> list[str]:
    return [str(shutil.copy(path, tmp_path / f"{path.stem}.py")) for path in (SEEN, REFUSED)]


def mypy(tmp_path: Path, *, plugin: bool) -> dict[str, set[int]]:
    config = tmp_path / "mypy.ini"
    plugins = "plugins = ipckit.mypy_plugin\n" if plugin else ""
    config.write_text(f"[mypy]\nstrict = true\npython_version = 3.11\n{plugins}")
    command = [sys.executable, "-m", "mypy", "--config-file", str(config)]
    command += ["--cache-dir", os.devnull, "--follow-imports=silent"]
    out = subprocess.run(
        [*command, *copies(tmp_path)],
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, set[int]] = {SEEN.name: set(), "refused.py": set()}
    for name, line in re.findall(r"(\w+\.py):(\d+): error", out.stdout):
        found[name].add(int(line))
    assert out.returncode == 1, out.stdout + out.stderr
    return found


def test_mypy_with_the_plugin_sees_plain_types(tmp_path: Path) -> None:
    assert mypy(tmp_path, plugin=True) == {SEEN.name: set(), "refused.py": EXPECTED}


def test_mypy_without_the_plugin_takes_text_and_bytes_for_any(tmp_path: Path) -> None:
    lines = SEEN.read_text().splitlines()
    fields = ["stu.name, str", "frame.mac, bytes", "wide.kind, int", "wide.color, int"]
    calls = [f"assert_type({field})" for field in [*fields, "wide.pointer, bytes"]]
    text = {number for number, line in enumerate(lines, 1) if line.strip() in calls}
    assert len(text) == len(calls)
    refused = {
        number
        for number in EXPECTED
        if not re.search(r"Stu\(5|name = b|Mode", line_of(REFUSED, number))
    }
    assert mypy(tmp_path, plugin=False) == {SEEN.name: text, "refused.py": refused}


def line_of(path: Path, number: int) -> str:
    return path.read_text().splitlines()[number - 1]


def test_pyright_sees_plain_types(tmp_path: Path) -> None:
    config = tmp_path / "pyrightconfig.json"
    python = {"venvPath": str(Path(sys.prefix).parent), "venv": Path(sys.prefix).name}
    files = copies(tmp_path)
    strict = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}
    config.write_text(json.dumps({**python, **strict}))
    out = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "-p", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, set[int]] = {SEEN.name: set(), "refused.py": set()}
    report = json.loads(out.stdout)
    assert report["summary"]["filesAnalyzed"] == len(files)
    for problem in report["generalDiagnostics"]:
        if problem["severity"] == "error":
            name = Path(problem["file"]).name
            found[name].add(problem["range"]["start"]["line"] + 1)
    assert found == {SEEN.name: set(), "refused.py": EXPECTED}, report["generalDiagnostics"]
