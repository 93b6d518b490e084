"""The examples in docs/ print what the pages show."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipckit.testing import Child, require

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


C_EXAMPLE = re.compile(r"^```c\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("root")  # in namespaces of the run's own: the examples have a fixed key
def test_the_c_program_of_the_message_queues_talks_to_the_python_beside_it(ns: Namespace) -> None:
    page = (DOCS / "message-queues.md").read_text()
    section = page.partition("\n## C programs\n")[2].partition("\n## ")[0]
    (program,) = C_EXAMPLE.findall(section)
    gcc = require("gcc", package="gcc")
    options = ("-Wall", "-Wextra", "-Werror", "-x", "c", "-o", ns.directory / "double", "-")
    subprocess.run([gcc, *options], input=program, text=True, check=True)
    found = EXAMPLE.findall(section)
    assert len(found) == 2
    with Child(ONE_SCOPE, *(code for code, _ in found), cwd=ns.directory) as child:
        printed = child.result
    assert printed == [re.sub("^    ", "", shown, flags=re.MULTILINE) for _, shown in found]


ONE_SCOPE = """
import contextlib, io
scope = {"__name__": "page"}
result = []
for code in args:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "<page>", "exec", dont_inherit=True), scope)
    result.append(out.getvalue())
"""
