"""Check the links of a built site: ``python docs/check_site.py build/site``.

Each link within the site must lead to a file and, if it has a fragment, to an element with that id.
A page must load nothing from elsewhere, so that the site works offline.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Page(HTMLParser):
    """What one page links to, what it loads, and the ids that others can link to."""

    text: str
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the attributes of one element."""
        found = {name: value for name, value in attrs if value}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in {"index", "search", "next", "prev"}:
            self.loads.append(found.get("href", ""))
        elif "src" in found:
            self.loads.append(found["src"])


def faults(site: Path) -> list[str]:
    """What is wrong with the links of a site, a line for each."""
    pages = {path.resolve(): Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        wrong = [f"loads {link}, which needs a network" for link in page.loads if is_remote(link)]
        local = [link for link in (*page.links, *page.loads) if not is_remote(link)]
        wrong += [reason for link in local if (reason := fault_of(link, path, pages))]
        found += [f"{path.relative_to(site.resolve())}: {reason}" for reason in wrong]
    return found


def is_remote(link: str) -> bool:
    """Whether a link leads out of the site."""
    parts = urlsplit(link)
    return bool(parts.netloc) or parts.scheme in {"http", "https", "mailto"}


def fault_of(link: str, path: Path, pages: dict[Path, Page]) -> str | None:
    """What is wrong with a local link on the page at `path`; None if nothing is."""
    parts = urlsplit(link)
    if parts.scheme == "data":
        return None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return f"no file for {link}"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
        return f"no element for {link}"
    return None


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]))
    sys.exit("\n".join(wrong) or None)
