"""The fingerprint of a payload type in the header of a channel or topic; see docs/layout.md."""

from __future__ import annotations

import hashlib


def fingerprint(text: str, size: int | None) -> int:
    """Return the fingerprint of a payload type: 64 bits, never 0.

    Args:
        text: the attribute ``fingerprint`` of its codec.
        size: the bytes of each message; None if messages differ in size.
    """
    digest = hashlib.blake2b(f"{text}/{size}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
