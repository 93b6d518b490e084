"""What the scripts share: keys on the command line, records as text, and how errors end a run."""

from __future__ import annotations

import signal

# Ctrl-C while the imports below are going on ends the script as quietly as later.
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
    from collections.abc import Generator, Iterator

signal.signal(signal.SIGINT, signal.default_int_handler)


class Stu(Struct):
    """``typedef struct stu { char name[32]; int age; } STU;``, 36 bytes."""

    name: Char[32]
    age: Int


def stu_from_csv(line: bytes) -> Stu:
    """A record from ``name,age``; ValueError where the line is not one."""
    text = line.decode(errors="surrogateescape")
    name, comma, age = text.rpartition(",")
    if not comma:
        message = f"{text!r} is not name,age"
        raise ValueError(message)
    try:
        years = int(age)
    except ValueError:
        message = f"{text!r} is not name,age: the age is no integer"
        raise ValueError(message) from None
    return Stu(name.strip(), years)


def seconds(text: str) -> float:
    """A timeout on the command line."""
    value = float(text)
    if not value >= 0:
        message = f"{text} is no number of seconds"
        raise ValueError(message)
    return value


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """Add what the senders read: text, ``--file``, or standard input."""
    parser.add_argument("text", nargs="*", help="one message each; else lines are read")
    parser.add_argument("--file", help="send this file's lines")
    parser.add_argument("--struct", action="store_true", help="lines are name,age: send structs")
    parser.add_argument("--timeout", type=seconds, help="seconds to wait while the queue is full")
    parser.add_argument("--create", action="store_true", help="make the queue if there is none")


def inputs(args: argparse.Namespace) -> Iterator[bytes]:
    """What is to be sent, one message at a time, as soon as it is there."""
    if args.text:
        yield from (os.fsencode(text) for text in args.text)
    elif args.file is not None:
        with Path(args.file).open("rb") as file:
            yield from (line.rstrip(b"\n") for line in file)
    elif sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] # `<&-` makes it so
        message = "standard input is closed"
        raise ValueError(message)
    else:
        yield from (line.rstrip(b"\n") for line in sys.stdin.buffer)


def shown(text: str) -> str:
    """What a terminal may show of another process's text: no control characters."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def show(number: int, value: bytes | Stu) -> None:
    """Print one message as ``number<TAB>payload``, at once; bytes as they came if to a pipe."""
    payload = value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")
    if sys.stdout.isatty():
        payload = shown(payload.decode(errors="replace")).encode()
    sys.stdout.buffer.write(b"%d\t%s\n" % (number, payload))
    sys.stdout.buffer.flush()


def say(value: object) -> None:
    """Print lines at once, as UTF-8; without control characters on a terminal."""
    text = str(value)
    if sys.stdout.isatty():
        # Line ends and tabs are the scripts' own, or do no harm.
        text = "".join(each if each in "\n\t" else shown(each) for each in text)
    sys.stdout.buffer.write(text.encode(errors="surrogateescape") + b"\n")
    sys.stdout.buffer.flush()


def looks() -> Iterator[int]:
    """Count, 50 times a second: shared memory tells nobody that it changed."""
    number = 0
    while True:
        yield number
        number += 1
        time.sleep(0.02)


def add_key_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--key``, or ``--path`` with ``--proj``."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--key", help="the key: 1234 or 0x4d2")
    which.add_argument("--path", help="make the key of this file, as ftok(3) does")
    parser.add_argument("--proj", help="with --path: one character, or 1 to 255")


def key_of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Key:
    """The key that the options name; bad usage where they name none."""
    try:
        if args.key is not None:
            if args.proj is not None:
                parser.error("--proj goes with --path")
            return Key.parse(args.key)
        if args.proj is None:
            parser.error("--path needs --proj")
        # A digit is the character, as in C's ftok(path, '1'); several are a number.
        return ftok(args.path, args.proj if len(args.proj) == 1 else _project(args.proj))
    except ValueError as exc:
        parser.error(str(exc))


def _project(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        message = f"proj is {text!r}; it takes one ASCII character, or 1 to 255"
        raise ValueError(message) from None


def key_argument(description: str) -> Key:
    """The key that is the whole command line of one side of the demonstration."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("key", type=Key.parse, help="the queue's key")
    key: Key = parser.parse_args().key
    return key


def _check_output() -> None:
    # Before anything is taken that could not be shown.
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison] # `>&-` makes it so
        message = "standard output is closed"
        raise ValueError(message)


@contextmanager
def plain_errors() -> Generator[None]:
    """End quietly on Ctrl-C or a closed pipe, and with one line and status 1 on an error."""
    try:
        _check_output()
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # Python would complain once more when it flushes standard output at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (IpcError, OSError, ValueError) as exc:
        if isinstance(exc, LayoutMismatch) and exc.raw is not None:
            exc.hint = f"the message is taken, and was {exc.raw!r}"
        # A name or path may hold line breaks.
        print("error:", shown(" ".join(str(exc).splitlines())), file=sys.stderr)
        sys.exit(1)
