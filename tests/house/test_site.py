"""The checker of the site's links sees what is wrong; `make docs` runs it over the whole site."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

sys.path.insert(0, str(REPOSITORY / "docs"))
try:
    from check_site import faults
finally:
    sys.path.pop(0)


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ('<a href="other.html#there">x</a> <a href="#here">y</a> <i id="here"></i>', []),
        ('<a href="https://example.org/x">x</a> <a href="mailto:a@example.org">y</a>', []),
        ('<a href="folder/in.html">x</a> <img src="a%20b.svg">', []),
        ('<a href="none.html">x</a>', ["page.html: no file for none.html"]),
        ('<a href="other.html#none">x</a>', ["page.html: no element for other.html#none"]),
        ('<a href="#none">x</a>', ["page.html: no element for #none"]),
        ('<img src="none.png">', ["page.html: no file for none.png"]),
        (
            '<script src="https://example.org/x.js"></script>',
            ["page.html: loads https://example.org/x.js, which needs a network"],
        ),
        (
            '<link rel="stylesheet" href="//example.org/x.css">',
            ["page.html: loads //example.org/x.css, which needs a network"],
        ),
    ],
)
def test_what_the_checker_finds(tmp_path: Path, body: str, wrong: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "in.html").write_text('<a href="../page.html">back</a>')
    (tmp_path / "a b.svg").write_text("")
    (tmp_path / "other.html").write_text('<h1 id="there">x</h1>')
    (tmp_path / "page.html").write_text(body)
    assert faults(tmp_path) == wrong
