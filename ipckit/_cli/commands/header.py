"""``ipckit header``: convert a Struct to a C header, or a C header to Struct classes."""

from __future__ import annotations

import sys
from typing import Final

import click

from ipckit._cli.options import usage
from ipckit._cli.output import say_lines
from ipckit._cli.payload import c_text, struct_named
from ipckit.structs import c_header, python_source

_EXAMPLES: Final = """\b
Examples:
  ipckit header records:Stu > stu.h
  ipckit header --from stu.h > records.py
  gcc -E stu.h | grep -v '^#' | ipckit header --from -
"""


@click.command(epilog=_EXAMPLES)
@click.argument("reference", metavar="[MODULE:CLASS]", required=False)
@click.option("--from", "source", metavar="FILE", help="Read this C header; - is standard input.")
@click.option("--name", help="With --from: only this struct and those nested in it.")
def command(reference: str | None, *, source: str | None, name: str | None) -> None:
    """Print the C header of a Struct class, or with --from the Struct classes of a C header.

    The C header does not compile if sizes or offsets differ from those that Python uses. The
    module can be in this directory.
    """
    if (reference is None) == (source is None):
        message = "expected either MODULE:CLASS or --from FILE"
        raise click.UsageError(message, click.get_current_context())
    if name is not None and source is None:
        message = "--name needs --from"
        raise click.UsageError(message, click.get_current_context())
    with usage():
        if reference is not None:
            text = c_header(struct_named(reference), reference)
        else:
            path = str(source)
            read = sys.stdin.read() if path == "-" else c_text(f"@{path}")
            text = python_source(read, name, "" if path == "-" else path)
    say_lines(text.rstrip("\n"))
