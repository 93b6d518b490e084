"""``ipckit dump``: show the bytes of shared memory, as a hexdump, as structs, or for numpy."""

from __future__ import annotations

import math
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from ipckit._cli.dtypes import dtype_named
from ipckit._cli.hexdump import hexdump
from ipckit._cli.memory import open_object, open_path, pieces
from ipckit._cli.options import chosen, object_argument, struct_given, struct_options, usage
from ipckit._cli.output import DONE, ERROR, say, say_lines, write
from ipckit._cli.payload import decoded, json_line, plain

if TYPE_CHECKING:
    from ipckit._cli.memory import Source
    from ipckit.inventory import Kind
    from ipckit.structs import Struct

_KINDS: Final[tuple[Kind, ...]] = (
    "sysv-segment",
    "posix-segment",
    "posix-semaphore",
    "channel",
    "topic",
    "memfd",
)
_EXAMPLES: Final = """\b
Examples:
  ipckit dump m:5 | less
  ipckit dump shm:/frames --offset 4096 --size 256
  ipckit dump shm:/people --struct records:Stu -n 3
  ipckit dump shm:/frames --dtype u1 --shape 480,640 --output frame.npy
  ipckit dump /proc/1234/fd/7 --raw > copy
"""
_PER_WRITE: Final = 4096
_MOST_DIGITS: Final = 20  # of a length in --shape


def _number(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Parse a number of bytes: decimal, or hexadecimal with 0x."""
    if value is None:
        return None
    try:
        number = int(value, 0)
    except ValueError:
        number = -1
    if number < 0:
        message = f"{value!r} is not a number of bytes such as 4096 or 0x1000"
        raise click.BadParameter(message, ctx, param)
    return number


def _shape(ctx: click.Context, param: click.Parameter, value: str | None) -> list[int] | None:
    if value is None:
        return None
    parts = value.split(",")
    if not all(part.isdecimal() and len(part) <= _MOST_DIGITS for part in parts):
        message = f"{value!r} is not a shape such as 480,640"
        raise click.BadParameter(message, ctx, param)
    return [int(part) for part in parts]


def _print_hexdump(source: Source, offset: int, size: int) -> None:
    lines: list[str] = []
    for line in hexdump(pieces(source, offset, size), start=offset):
        lines.append(line)
        if len(lines) == _PER_WRITE:
            say_lines("\n".join(lines))
            lines.clear()
    if lines:
        say_lines("\n".join(lines))


def _print_structs(
    source: Source, span: tuple[int, int], struct: type[Struct], *, as_json: bool
) -> int:
    """Print one struct after the other; return the exit status."""
    offset, size = span
    length = struct.__plan__.size
    status = DONE
    for at in range(offset, offset + size - length + 1, length):
        value, why = decoded(struct, source.read(length, at))
        if value is None:
            say(f"ipckit: offset {at:#x}: {why}", error=True)
            status = ERROR
        elif as_json:
            write(json_line({"offset": at, "value": plain(value)}))
        else:
            say(f"{at:08x}  {value!r}")
    return status


def _array(source: Source, span: tuple[int, int], dtype: str, shape: list[int] | None) -> Any:
    import numpy as np  # noqa: PLC0415 - only for arrays

    offset, size = span
    context = click.get_current_context()
    with usage():
        element = dtype_named(dtype)
    wanted = shape or [size // element.itemsize]
    length = math.prod(wanted) * element.itemsize
    if length > size:
        message = f"the array takes {length:,} bytes; the memory has {size:,} from offset {offset}"
        raise click.UsageError(message, context)
    data = b"".join(pieces(source, offset, length))
    if len(data) < length:
        message = "the memory shrank while it was read"
        raise click.ClickException(message)
    return np.frombuffer(data, element).reshape(wanted)


def _check_npy(dtype: Any) -> None:
    """Refuse a dtype that a .npy file would contain as raw bytes, such as bfloat16."""
    from numpy.lib import format as npy  # noqa: PLC0415 - only for arrays

    try:
        kept = npy.descr_to_dtype(npy.dtype_to_descr(dtype)) == dtype
    except (TypeError, ValueError):
        kept = False
    if not kept:
        message = f"a .npy file cannot contain {dtype}; use --raw, or no --output for text"
        raise click.UsageError(message, click.get_current_context())


def _binary(stack: ExitStack, output: str | None) -> BinaryIO:
    """Open the output for binary data; refuse a terminal without ``--output -``."""
    if output not in {None, "-"}:
        # Mode 0600: the copy must not be readable by more users than the memory was.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        return stack.enter_context(os.fdopen(os.open(str(output), flags, 0o600), "wb"))
    if output is None and sys.stdout.isatty():
        message = "binary output would go to a terminal; use a pipe, --output FILE or --output -"
        raise click.UsageError(message, click.get_current_context())
    return sys.stdout.buffer


class _Stream:
    """A wrapper, because numpy asks a file for its position, and a pipe has none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes, /) -> int:
        """Write to the file."""
        return self._file.write(data)


def _check(struct: type[Struct] | None, given: dict[str, Any]) -> None:
    """Refuse options that contradict each other."""
    forms = [name for name in ("--raw", "--dtype") if given[name]]
    forms += ["--struct or --c"] if struct is not None else []
    wrong = ""
    if len(forms) > 1:
        wrong = f"{' and '.join(forms)} exclude each other"
    elif given["--shape"] and not given["--dtype"]:
        wrong = "--shape needs --dtype"
    elif given["--output"] and not (given["--raw"] or given["--dtype"]):
        wrong = "--output needs --raw or --dtype; a hexdump goes to standard output"
    elif (given["-n"] or given["--json"]) and struct is None:
        wrong = "-n and --json need --struct or --c"
    if wrong:
        raise click.UsageError(wrong, click.get_current_context())


def _span(source: Source, offset: int, size: int | None) -> tuple[int, int]:
    if offset > source.size:
        message = f"--offset is {offset:,}, but the memory has {source.size:,} bytes"
        raise click.UsageError(message, click.get_current_context())
    left = source.size - offset
    return offset, left if size is None else min(size, left)


@click.command(epilog=_EXAMPLES)
@object_argument(*_KINDS)
@click.option(
    "--offset",
    default="0",
    callback=_number,
    metavar="BYTES",
    help="The first byte; default 0.",
)
@click.option("--size", callback=_number, metavar="BYTES", help="Show at most this many.")
@click.option("-n", "count", type=click.IntRange(min=1), metavar="N", help="Show N structs.")
@struct_options
@click.option("--json", "as_json", is_flag=True, help="Print each struct as a line of JSON.")
@click.option("--dtype", metavar="DTYPE", help="Decode as a numpy array of this dtype.")
@click.option(
    "--shape",
    callback=_shape,
    metavar="N,N",
    help="The array's shape; by default one dimension.",
)
@click.option("--raw", is_flag=True, help="Write the bytes themselves; not to a terminal.")
@click.option("--output", metavar="FILE", help="Write to this file; - is standard output.")
def command(
    text: str,
    *,
    offset: int,
    size: int | None,
    count: int | None,
    as_json: bool,
    dtype: str | None,
    shape: list[int] | None,
    raw: bool,
    output: str | None,
) -> int:
    """Show the bytes of shared memory.

    OBJECT is a segment, a channel, a topic, a memfd, a POSIX semaphore, or a path: /proc/PID/fd/N
    for a descriptor of a process, file:PATH for a mapped file. The bytes are shown as hexadecimal
    digits and text, where * stands for repeated rows; or as structs; or written as a .npy file. To
    read a System V segment, the command attaches it, which changes its attach and detach times.
    """
    struct = struct_given()
    given = {"--raw": raw, "--dtype": dtype, "--shape": shape, "--output": output}
    _check(struct, {**given, "-n": count, "--json": as_json})
    with ExitStack() as stack, usage():
        is_path = text.startswith(("/proc/", "file:"))
        source = stack.enter_context(
            open_path(text.removeprefix("file:"))
            if is_path
            else open_object(chosen(text, _KINDS, holders=True))
        )
        span = _span(source, offset, size)
        if raw:
            out = _binary(stack, output)
            for piece in pieces(source, *span):
                out.write(piece)
        elif dtype is not None:
            array = _array(source, span, dtype, shape)
            if output is None:
                say_lines(repr(array))
                return DONE
            import numpy as np  # noqa: PLC0415 - only for arrays

            _check_npy(array.dtype)
            stream = _Stream(_binary(stack, output))
            np.lib.format.write_array(stream, array, allow_pickle=False)
        elif struct is not None:
            length = struct.__plan__.size
            most = span[1] if count is None else min(span[1], count * length)
            return _print_structs(source, (span[0], most), struct, as_json=as_json)
        else:
            _print_hexdump(source, *span)
    return DONE
