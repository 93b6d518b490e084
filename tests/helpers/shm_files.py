"""The files in /dev/shm that channels and topics are."""

from __future__ import annotations

from pathlib import Path

_SHM = Path("/dev/shm")  # noqa: S108 - where they live


def shm() -> set[str]:
    """Return the names of all files there."""
    return {path.name for path in _SHM.iterdir()}


def file_of(kind: str, name: str) -> Path:
    """Return the file of a ``"channel"`` or ``"topic"``."""
    prefix = {"channel": "ipckit", "topic": "ipckit-topic"}[kind]
    return _SHM / f"{prefix}.{name.removeprefix('/')}"
