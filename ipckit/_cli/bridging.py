"""``ipckit bridge``: read bridges from arguments or a TOML file, and run them until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import tomllib
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import click

from ipckit import bridge
from ipckit._cli.options import Size, usage
from ipckit._cli.output import DONE, ERROR, say
from ipckit._core.allocator import keep_freed_memory
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    from ipckit.bridge import Route

    Direction = Literal["send", "receive"]

_FILES: Final = frozenset({"credentials", "tls_ca", "tls_cert", "tls_key", "zenoh_config"})
_SIZES: Final = frozenset({"max_bytes", "packet_bytes"})
_NUMBERS: Final = frozenset({"window", "packet_messages", "capacity"})
_WORDS: Final = frozenset({"storage", "when_full"})
_KEYS: Final = frozenset({"from", "to"}) | _FILES | _SIZES | _NUMBERS | _WORDS
# Options that apply to one direction only, and the reason for the error message.
_ONLY: Final[dict[str, tuple[Direction, str]]] = {
    "storage": ("send", "the sending side creates the stream"),
    "max_bytes": ("send", "the sending side creates the stream"),
    "capacity": ("receive", "the receiving side creates the channel or topic"),
}


def _wrong(message: str) -> click.UsageError:
    return click.UsageError(message, click.get_current_context(silent=True))


def _is_url(end: str) -> bool:
    return "://" in end


def _route(source: str, target: str, given: Mapping[str, Any], name: Callable[[str], str]) -> Route:
    """Return the bridge between two ends.

    Args:
        source: the address or URL from which messages come.
        target: the URL or address to which they go.
        given: the options that the user has given, by their names in `BridgeOptions`.
        name: returns an option's name as the user writes it, such as ``--when-full``.

    Raises:
        InvalidArgument: an end or an option is invalid.
        UsageError: the ends or options contradict each other.
    """
    if _is_url(source) == _is_url(target):
        what = "URLs" if _is_url(source) else "objects of this machine"
        message = f"both ends are {what}; one must be channel:NAME or topic:NAME, the other a URL"
        raise _wrong(message)
    direction: Direction = "receive" if _is_url(source) else "send"
    address, url = (target, source) if direction == "receive" else (source, target)
    for option, (only, why) in _ONLY.items():
        if option in given and direction != only:
            message = f"{name(option)} does not apply to a bridge that {direction}s: {why}"
            raise _wrong(message)
    route = bridge.Route(direction, address, url, bridge.BridgeOptions(**given))
    if "when_full" in given and not address.startswith("topic:"):
        message = f"{name('when_full')} applies to topics; a channel's senders wait if it is full"
        raise _wrong(message)
    return route


def route_of_arguments(
    source: str, target: str, direction: str | None, given: Mapping[str, Any]
) -> Route:
    """Return the bridge that the arguments of the command describe.

    Args:
        source: the first argument.
        target: the second argument.
        direction: ``"send"`` or ``"receive"`` if the user has given ``--send`` or ``--receive``,
            otherwise None.
        given: the other options that the user has given, by their names in `BridgeOptions`.

    Raises:
        UsageError: an argument or option is invalid, or they contradict each other.
    """
    with usage():
        route = _route(source, target, given, lambda name: f"--{name.replace('_', '-')}")
    if direction not in {None, route.direction}:
        object_at = "first" if direction == "send" else "second"
        message = f"--{direction} needs the channel or topic as the {object_at} argument"
        raise _wrong(message)
    return route


# -- bridges of a file -----------------------------------------------------------------------------


def routes_of_file(path: Path) -> list[Route]:
    """Return the bridges that a TOML file describes.

    Raises:
        UsageError: the file can't be read, or a table, a key or a value in it is invalid.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        message = f"{path}: {exc.strerror if isinstance(exc, OSError) else exc}"
        raise _wrong(message) from None
    for key in tables.keys() - {"bridge"}:
        message = f"{path}: unknown key {key!r}; each bridge is a table [[bridge]]"
        raise _wrong(message)
    found: Any = tables.get("bridge")
    if not isinstance(found, list) or not found:
        message = f"{path}: no bridge; each is a table [[bridge]] with the keys from and to"
        raise _wrong(message)
    routes: list[Route] = []
    for number, table in enumerate(cast("list[object]", found), 1):
        where = f"{path}: bridge {number}"
        if not isinstance(table, dict):
            message = f"{where} is not a table; write [[bridge]]"
            raise _wrong(message)
        route = _route_of_table(cast("dict[str, Any]", table), where, path.parent)
        ends = (route.direction, route.address, route.url)
        if ends in {(each.direction, each.address, each.url) for each in routes}:
            message = f"{where}: an earlier bridge has the same ends"
            raise _wrong(message)
        routes.append(route)
    return routes


def _route_of_table(table: dict[str, Any], where: str, directory: Path) -> Route:
    for key in table.keys() - _KEYS:
        message = f"{where}: unknown key {key!r}; known are {', '.join(sorted(_KEYS))}"
        raise _wrong(message)
    values = {key: _value(key, value, where, directory) for key, value in table.items()}
    for key in ("from", "to"):
        if key not in values:
            message = f"{where}: the key {key!r} is missing"
            raise _wrong(message)
    source, target = values.pop("from"), values.pop("to")
    try:
        return _route(source, target, values, repr)
    except InvalidArgument as exc:
        raise _wrong(f"{where}: {exc}") from None
    except click.UsageError as exc:
        raise _wrong(f"{where}: {exc.message}") from None


def _value(key: str, value: Any, where: str, directory: Path) -> Any:
    """Return the value of a key for `BridgeOptions`.

    Raises:
        UsageError: the value has the wrong type, or names a file that does not exist.
    """
    if key in _NUMBERS:
        wanted = "a whole number of 1 or more"
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    elif key in _SIZES:
        wanted = 'a size such as 65536 or "4G"'
        fits = isinstance(value, int | str) and not isinstance(value, bool)
        if fits:
            try:
                value = Size().convert(value, None, None)
            except click.BadParameter:
                fits = False
    else:
        wanted = "a text"
        fits = isinstance(value, str)
    if not fits:
        message = f"{where}: {key!r} must be {wanted}, not {value!r}"
        raise _wrong(message)
    if key in _FILES:
        file = directory / str(value)
        if not file.is_file():
            message = f"{where}: {key!r}: there is no file {str(file)!r}"
            raise _wrong(message)
        return str(file)
    return value


# -- running ---------------------------------------------------------------------------------------


def run(routes: Sequence[Route]) -> int:
    """Run bridges until SIGTERM or Ctrl-C; return the exit status.

    Raises:
        Abort: the user pressed Ctrl-C.
    """
    keep_freed_memory()
    stops = _Stops()
    try:
        errors = asyncio.run(_run(routes, stops))
    except asyncio.CancelledError:
        raise click.Abort from None
    for error in errors:
        if error is not None and not isinstance(error, OSError):
            raise error  # every IpcError is an OSError; another exception is a bug
    if stops.interrupted:
        raise click.Abort
    return ERROR if any(errors) else DONE


async def _run(routes: Sequence[Route], stops: _Stops) -> list[Exception | None]:
    with stops.handled():
        return await bridge.run(routes, stop=stops.stop, report=_report)


def _report(line: str) -> None:
    """Print a line to standard error. Ignore errors: a bridge outlives its terminal."""
    with contextlib.suppress(OSError, ValueError):
        say(f"ipckit bridge: {line}", error=True)
        sys.stderr.flush()


class _Stops:
    """The signals that stop the bridges.

    Attributes:
        stop: set when the bridges must stop.
        interrupted: whether the user has pressed Ctrl-C.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.interrupted = False
        self._task: asyncio.Task[Any] | None = None

    def _interrupt(self) -> None:
        if self.interrupted:
            # Restore the default handler, so that the next Ctrl-C ends the process in any case.
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
            if self._task is not None:
                self._task.cancel()
        self.interrupted = True
        self.stop.set()

    @contextlib.contextmanager
    def handled(self) -> Generator[None]:
        """Handle SIGINT and SIGTERM until the end of the block, except those that are ignored."""
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        in_main = threading.current_thread() is threading.main_thread()
        numbers: list[int] = []
        for number, handler in (
            (signal.SIGINT, self._interrupt),
            (signal.SIGTERM, self.stop.set),
        ):
            # A shell starts a background job with SIGINT ignored.
            if in_main and signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, handler)
                numbers.append(number)
        try:
            yield
        finally:
            for each in numbers:
                loop.remove_signal_handler(each)
