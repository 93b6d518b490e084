"""The programs and commands on the pages of the documentation do what the pages show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_examples import KINDS, RUN, Command, Page, blocks, commands, missing_tools, run_apart

if TYPE_CHECKING:
    from ipckit.testing import Namespace

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
# These have tests of their own: test_docs.py and cli/test_captures.py.
ELSEWHERE = {"docs/command-line.md", "docs/rpc.md", "docs/shared-memory.md"}
PAGES = {
    str(path.relative_to(REPOSITORY)): path
    for path in [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]
}
RUNNING = {
    name: path
    for name, path in PAGES.items()
    if name not in ELSEWHERE and any(block.kind in RUN for block in blocks(path.read_text()))
}


@pytest.mark.parametrize("name", PAGES)
def test_each_block_says_what_it_is(name: str) -> None:
    kinds = {block.kind for block in blocks(PAGES[name].read_text())}
    assert kinds - {"#"} <= KINDS, "see tests/helpers/page_examples.py for the kinds"


@pytest.mark.parametrize("name", PAGES)
def test_links_between_the_pages_lead_somewhere(name: str) -> None:
    path = PAGES[name]
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(((?!\w+:)[^)#]+)\)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []


# In namespaces of its own, because the examples have fixed names, TCP ports and use pkill.
@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("name", RUNNING)
def test_the_examples_print_what_the_page_shows(ns: Namespace, name: str) -> None:
    if missing := missing_tools(RUNNING[name].read_text()):
        pytest.skip(f"not on this machine: {', '.join(missing)}")
    run_apart(RUNNING[name], ns.directory)


TWO_TERMINALS = """
# Two

```py
# wait.py
import pathlib, time
while not pathlib.Path("word").exists():
    time.sleep(0.3)
print(pathlib.Path("word").read_text())
```

<!-- terminal 1 -->
```console
$ python wait.py
{word}
```

```console
$ printf hello > word; \\
  echo done
done
```

```python
n = 1
```

<!-- terminal 2 -->
```console
$ sleep 1000
^C
```

# Three

```python
print(n)
```

    {number}
"""


@pytest.mark.parametrize(
    ("word", "number", "right"),
    [
        *(("hello", "1", True), ("h...o", "1", True)),
        *(("hullo", "1", False), ("hello", "2", False), ("", "1", False)),
    ],
)
def test_a_page_with_two_terminals(ns: Namespace, word: str, number: str, *, right: bool) -> None:
    page = Page(TWO_TERMINALS.format(word=word, number=number), ns.directory)
    if right:
        page.run()
    else:
        with pytest.raises(AssertionError, match="the page shows:"):
            page.run()


def test_commands_of_a_block() -> None:
    assert commands("$ a \\\n  b\nx\n\ny\n$ c\n") == [("a \\\n  b", "x\n\ny\n"), ("c", "")]


def test_pkill_does_not_find_the_shell_that_runs_it(tmp_path: Path) -> None:
    command = "tr '\\0' ' ' < /proc/$$/cmdline"
    assert Command(command, tmp_path).finish() == 'sh -c eval "$COMMAND" '


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_command_that_is_killed_says_so(tmp_path: Path, shell: str) -> None:
    killed = f"""{shell} -c 'sh -c "kill -9 \\$\\$"; :'"""
    assert Command(killed, tmp_path).finish() == "Killed\n"
