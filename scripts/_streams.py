"""Shared by the scripts for channels and topics: options; lines, structs and frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from _common import Stu, add_input_options, inputs, say, seconds, stu_from_csv
from _frames import Frame, is_whole

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from _frames import Rate

    from ipckit import Channel
    from ipckit.topic import Subscription


def add_name_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options that name a channel or topic; `what` is that word."""
    parser.add_argument("--name", required=True, help=f"the {what}'s name")
    parser.add_argument("--owner-uid", type=int, help=f"also accept a {what} of this user")
    parser.add_argument("--rate", action="store_true", help="print the rate at the end")


def add_send_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options of a sender."""
    add_name_options(parser, what)
    add_input_options(parser)
    parser.add_argument("--frames", type=int, metavar="N", help="send N 1080p frames instead")
    parser.add_argument(
        "--capacity", type=int, help=f"with --create: messages that the {what} holds"
    )


def add_receive_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options of a receiver."""
    add_name_options(parser, what)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--struct", action="store_true", help="messages are structs")
    kind.add_argument("--frames", action="store_true", help="messages are 1080p frames")
    parser.add_argument("--count", type=int, default=-1, help="end after this many messages")
    parser.add_argument("--timeout", type=seconds, help="seconds to wait for each")
    new = "publishers" if what == "topic" else "senders"
    parser.add_argument("--wait", action="store_true", help=f"wait for new {new}")
    parser.add_argument("--remove", action="store_true", help=f"remove the {what} at the end")


def payload_of(args: argparse.Namespace) -> Any:
    """Return the type of the messages that the options ask for."""
    frames = args.frames is not None and args.frames is not False
    return Frame if frames else Stu if args.struct else bytes


def capacity_of(args: argparse.Namespace) -> int:
    """Return --capacity, or a default for the type of the messages."""
    if args.capacity is not None:
        return int(args.capacity)
    return 4 if payload_of(args) is Frame else 1024


def send_lines(args: argparse.Namespace, send: Callable[..., None], rate: Rate) -> None:
    """Send lines, unchanged or as structs."""
    for line in inputs(args):
        send(stu_from_csv(line) if args.struct else line, timeout=args.timeout)
        rate.add(Stu.size if args.struct else len(line))


def print_next(source: Channel[Any] | Subscription[Any], args: argparse.Namespace) -> int:
    """Receive one message and print it; of a frame, whether it is torn. Return its size."""
    with source.receive_view(timeout=args.timeout) as view:
        if not args.frames:
            value = view.value
            say(value.decode(errors="surrogateescape") if isinstance(value, bytes) else value)
            del value
        else:
            frame = view.array[0]
            number = int(frame["number"])
            say(f"frame {number}: {'whole' if is_whole(frame, number % 256) else 'torn'}")
            del frame
        return view.nbytes
