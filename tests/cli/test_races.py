"""Signals that come at the worst moment, which each test forces."""

from __future__ import annotations

import pytest

from ipckit._cli.interrupts import Interrupts


class _Late(Interrupts):
    """Ctrl-C comes just after the first look whether it has come."""

    _looked = False

    @property
    def _pending(self) -> bool:  # type: ignore[override]
        found: bool = self.__dict__.get("pending", False)
        if not self._looked:
            self._looked = True
            self._handle(2, None)
        return found

    @_pending.setter
    def _pending(self, value: bool) -> None:
        self.__dict__["pending"] = value


def test_an_interrupt_before_a_block_that_allows_it() -> None:
    """The block waited for a message until Ctrl-C came a second time."""
    interrupts = _Late()
    entered = False
    with pytest.raises(KeyboardInterrupt), interrupts.delayed(), interrupts.allowed():
        entered = True
    assert not entered
