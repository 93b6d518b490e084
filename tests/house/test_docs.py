"""The examples in docs/ print what the pages show."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipckit.testing import Child

if TYPE_CHECKING:
    from ipckit.testing import Namespace

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
# A block of Python, and what it prints where that is shown.
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:\n((?:    [^\n]*\n)+))?", re.MULTILINE | re.DOTALL)

RUN = """
import contextlib, io
scope = {"__name__": "page"}
result = []
for code in args:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, scope)
    result.append(out.getvalue())
for name in ("memory", "again", "maybe", "file", "segment", "other"):
    scope[name].close()
scope["PosixSharedMemory"].open("/frames").adopt().__exit__(None, None, None)
"""


@pytest.mark.usefixtures("root")  # in namespaces of the run's own: the examples have fixed names
def test_the_examples_of_shared_memory_print_what_they_show(ns: Namespace) -> None:
    found = EXAMPLE.findall((DOCS / "shared-memory.md").read_text())
    assert len(found) > 5
    with Child(RUN, *(code for code, _ in found), cwd=ns.directory) as child:
        printed = child.result
    for (_, shown), real in zip(found, printed, strict=True):
        assert real == re.sub("^    ", "", shown, flags=re.MULTILINE)


PROGRAM = re.compile(r"^```py\n(.*?)^```\n(?:\n((?:    [^\n]*\n)+))?", re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("root")  # in namespaces of the run's own: the service has a fixed name
def test_the_service_of_its_page_answers_the_client(ns: Namespace) -> None:
    (service, _), (client, shown) = PROGRAM.findall((DOCS / "rpc.md").read_text())
    with Child(service, cwd=ns.directory) as server:
        with Child(ONE_SCOPE, client, cwd=ns.directory) as child:
            assert child.result == [re.sub("^    ", "", shown, flags=re.MULTILINE)]
        server.send_signal(signal.SIGINT)  # Ctrl-C, which removes the service
        server.wait(expect=None)


ONE_SCOPE = """
import contextlib, io
scope = {"__name__": "page"}
result = []
for code in args:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "<page>", "exec", dont_inherit=True), scope)
    result.append(out.getvalue())
"""
