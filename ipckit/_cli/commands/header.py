"""``ipckit header``: convert a Struct to a C header, or a C header to Struct classes."""

from __future__ import annotations

import errno
import sys
from typing import Any, Final

import click

from ipckit._cli.options import usage
from ipckit._cli.output import say_lines
from ipckit._cli.payload import c_text, struct_named
from ipckit.errors import InvalidArgument
from ipckit.structs import c_header, python_source

_EXAMPLES: Final = """\b
Examples:
  ipckit header records:Stu > stu.h
  ipckit header --from stu.h > records.py
  ipckit header --from /usr/include/netinet/ip.h --name iphdr
  gcc -E stu.h | ipckit header --from -
"""


def _definition(text: str) -> tuple[str, str]:
    """Return the name and the value of a macro, as a compiler reads ``-D``."""
    name, equals, value = text.partition("=")
    return name, value if equals else "1"


def _python_source(*args: Any, **options: Any) -> str:
    try:
        return python_source(*args, **options)
    except ImportError as exc:
        raise InvalidArgument(str(exc), errno=errno.EINVAL) from None


@click.command(epilog=_EXAMPLES)
@click.argument("reference", metavar="[MODULE:CLASS]", required=False)
@click.option("--from", "source", metavar="FILE", help="Read this C header; - is standard input.")
@click.option("--name", help="With --from: only this struct and those nested in it.")
@click.option("-I", "include_dirs", metavar="DIR", multiple=True, help="Search DIR for includes.")
@click.option("-D", "defines", metavar="NAME[=VALUE]", multiple=True, help="Define a macro.")
@click.option("--target", metavar="TRIPLE", help="The layout of another machine, as for clang.")
@click.option("--opaque", is_flag=True, help="Keep pointers and the like as bytes.")
def command(
    reference: str | None,
    *,
    source: str | None,
    name: str | None,
    include_dirs: tuple[str, ...],
    defines: tuple[str, ...],
    target: str | None,
    opaque: bool,
) -> None:
    """Print the C header of a Struct class, or with --from the Struct classes of a C header.

    The C header does not compile if sizes or offsets differ from those that Python uses. The
    module can be in this directory.
    """
    if (reference is None) == (source is None):
        message = "expected either MODULE:CLASS or --from FILE"
        raise click.UsageError(message, click.get_current_context())
    given = {
        "--name": name,
        "-I": include_dirs,
        "-D": defines,
        "--target": target,
        "--opaque": opaque,
    }
    for option, value in given.items():
        if value and source is None:
            message = f"{option} needs --from"
            raise click.UsageError(message, click.get_current_context())
    with usage():
        if reference is not None:
            text = c_header(struct_named(reference), reference)
        else:
            path = str(source)
            text = _python_source(
                sys.stdin.read() if path == "-" else c_text(f"@{path}"),
                name,
                "" if path == "-" else path,
                include_dirs=include_dirs,
                defines=dict(_definition(each) for each in defines),
                target=target,
                opaque=opaque,
            )
    say_lines(text.rstrip("\n"))
