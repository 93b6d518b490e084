"""Ctrl-C during a loop that receives messages and prints them."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Interrupts:
    """Delays Ctrl-C between a message's receipt and its output, so that no message is lost.

    A second Ctrl-C is not delayed, because the output can block.
    """

    def __init__(self) -> None:
        self._allowed = True
        self._pending = False

    def _handle(self, number: int, frame: Any) -> None:
        del number, frame
        if self._allowed or self._pending:
            raise KeyboardInterrupt
        self._pending = True

    @contextlib.contextmanager
    def handled(self) -> Generator[None]:
        """Handle SIGINT until the end of the block, if it would raise KeyboardInterrupt."""
        default: Callable[..., Any] = signal.default_int_handler
        in_main = threading.current_thread() is threading.main_thread()
        if not in_main or signal.getsignal(signal.SIGINT) is not default:
            yield
            return
        signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, default)

    @contextlib.contextmanager
    def delayed(self) -> Generator[None]:
        """Delay Ctrl-C until the end of the block."""
        self._allowed = False
        try:
            yield
        finally:
            self._allowed = True
        if self._pending:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def allowed(self) -> Generator[None]:
        """Let Ctrl-C interrupt the block, within a block that delays it."""
        # Allowed first: a Ctrl-C after the check would be delayed until the end of the block.
        self._allowed = True
        try:
            if self._pending:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False
