"""A pool of two workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ipckit.pool import ProcessPool

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    with ProcessPool(2, "fork") as made:
        yield made
