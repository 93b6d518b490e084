"""Shared by the scripts: keys on the command line, records as text, and error reports."""

from __future__ import annotations

import signal

# Ctrl-C during the imports below ends the script without a traceback, as it does later.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ipckit import Char, Int, IpcError, Key, LayoutMismatch, Struct, ftok

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

signal.signal(signal.SIGINT, signal.default_int_handler)


class Stu(Struct):
    """``typedef struct stu { char name[32]; int age; } STU;``, 36 bytes."""

    name: Char[32]
    age: Int


def stu_from_csv(line: bytes) -> Stu:
    """Parse a record from ``name,age``; ValueError if the line is not one."""
    text = line.decode(errors="surrogateescape")
    name, comma, age = text.rpartition(",")
    if not comma:
        message = f"{text!r} is not name,age"
        raise ValueError(message)
    try:
        years = int(age)
    except ValueError:
        message = f"{text!r} is not name,age: the age is not an integer"
        raise ValueError(message) from None
    return Stu(name.strip(), years)


def seconds(text: str) -> float:
    """Parse a timeout from the command line."""
    value = float(text)
    if not value >= 0:
        message = f"{text} is not a number of seconds, 0 or more"
        raise ValueError(message)
    return value


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """Add the senders' sources of input: text, ``--file``, or standard input."""
    parser.add_argument(
        "text", nargs="*", help="one message each; by default, lines from standard input"
    )
    parser.add_argument("--file", help="send this file's lines")
    parser.add_argument("--struct", action="store_true", help="lines are name,age: send structs")
    parser.add_argument("--timeout", type=seconds, help="seconds to wait while the queue is full")
    parser.add_argument("--create", action="store_true", help="create it if it does not exist")


def inputs(args: argparse.Namespace) -> Iterator[bytes]:
    """Yield the messages to send, each as soon as it is read."""
    if args.text:
        yield from (os.fsencode(text) for text in args.text)
    elif args.file is not None:
        with Path(args.file).open("rb") as file:
            yield from (line.rstrip(b"\n") for line in file)
    elif sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] # with `<&-`
        message = "standard input is closed"
        raise ValueError(message)
    else:
        yield from (line.rstrip(b"\n") for line in sys.stdin.buffer)


def shown(text: str) -> str:
    """Replace control characters in another process's text, so that a terminal can show it."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def show(number: int, value: bytes | Stu) -> None:
    """Print one message as ``number<TAB>payload`` and flush; into a pipe, bytes are unchanged."""
    payload = value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")
    if sys.stdout.isatty():
        payload = shown(payload.decode(errors="replace")).encode()
    sys.stdout.buffer.write(b"%d\t%s\n" % (number, payload))
    sys.stdout.buffer.flush()


def say(value: object) -> None:
    """Print lines as UTF-8 and flush; on a terminal, without control characters."""
    text = str(value)
    if sys.stdout.isatty():
        # Line ends and tabs come from the scripts, or are harmless.
        text = "".join(each if each in "\n\t" else shown(each) for each in text)
    sys.stdout.buffer.write(text.encode(errors="surrogateescape") + b"\n")
    sys.stdout.buffer.flush()


def looks() -> Iterator[int]:
    """Count 50 times a second, for polling: shared memory does not notify of a change."""
    number = 0
    while True:
        yield number
        number += 1
        time.sleep(0.02)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition is true; TimeoutError if it still is not after so many seconds."""
    end = time.monotonic() + seconds
    next(None for _ in looks() if condition() or time.monotonic() > end)
    if not condition():
        message = f"nothing changed within {seconds:g} s"
        raise TimeoutError(message)


def add_key_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--key``, or ``--path`` with ``--proj``."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--key", help="the key: 1234 or 0x4d2")
    which.add_argument("--path", help="use the key of this file, as ftok(3) does")
    parser.add_argument("--proj", help="with --path: one character, or 1 to 255")


def key_of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Key:
    """Return the key that the options name; a usage error if they do not name one."""
    try:
        if args.key is not None:
            if args.proj is not None:
                parser.error("--proj goes with --path")
            return Key.parse(args.key)
        if args.proj is None:
            parser.error("--path needs --proj")
        # One digit is a character, as in C's ftok(path, '1'); several digits are a number.
        return ftok(args.path, args.proj if len(args.proj) == 1 else _project(args.proj))
    except ValueError as exc:
        parser.error(str(exc))


def _project(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        message = f"proj must be one ASCII character, or 1 to 255, not {text!r}"
        raise ValueError(message) from None


def key_argument(description: str) -> Key:
    """Parse the key, which is the only argument of each side of the demonstration."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("key", type=Key.parse, help="the queue's key")
    key: Key = parser.parse_args().key
    return key


def _check_output() -> None:
    # Before the script takes a message that it could not print.
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison] # with `>&-`
        message = "standard output is closed"
        raise ValueError(message)


@contextmanager
def plain_errors() -> Generator[None]:
    """Exit quietly on Ctrl-C or a closed pipe; on an error, print one line and exit with 1."""
    try:
        _check_output()
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # Otherwise Python reports the error again when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (IpcError, OSError, ValueError) as exc:
        if isinstance(exc, LayoutMismatch) and exc.raw is not None:
            exc.hint = f"the message has left the queue; it was {exc.raw!r}"
        # A name or path may contain line breaks.
        print("error:", shown(" ".join(str(exc).splitlines())), file=sys.stderr)
        sys.exit(1)
