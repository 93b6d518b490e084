"""Text of other processes, made fit for a terminal, a log or JSON.

Names, labels, command lines and messages are chosen by the processes that make them. A control
character in one drives the terminal of the user who reads it; a bidirectional override or a
character without width makes one name look like another.
"""

from __future__ import annotations

from typing import Final

# Python calls these printable, and a terminal shows nothing or a blank for them: the code points
# that Unicode calls ignorable, and the blank pattern of Braille.
_UNSEEN: Final = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)
_BYTE: Final = 0x100
_BASIC: Final = 0x10000
_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _is_plain(char: str) -> bool:
    return char.isprintable() and char not in _UNSEEN


def _escaped(char: str) -> str:
    code = ord(char)
    if char in _NAMED:
        return _NAMED[char]
    if code < _BYTE:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _BASIC else f"\\U{code:08x}"


def one_line(text: str) -> str:
    r"""A text as one line that does nothing to a terminal.

    Line ends, control characters, bidirectional controls, characters without width and bytes that
    are not UTF-8 become escapes: ``\n``, ``\x1b``, ``\u202e``, ``\udcff``. A text that went
    through this comes out of it unchanged.

    Args:
        text: may hold anything, also the lone surrogates of `os.fsdecode`.

    Returns:
        The text, in which each character that is left has a shape of its own.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_plain(char) else _escaped(char) for char in text)


def _json_escaped(char: str) -> str:
    code = ord(char)
    if code < _BASIC:
        return f"\\u{code:04x}"
    code -= _BASIC
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def in_json(text: str) -> str:
    r"""JSON that does nothing to a terminal, with the same value.

    `json.dumps` leaves C1 control characters, bidirectional controls and lone surrogates as they
    are when it is told to leave letters; here they become ``\uXXXX``. What is left is UTF-8.

    Args:
        text: as `json.dumps` made it, with line ends only between its tokens.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if _is_plain(char) or char == "\n" else _json_escaped(char) for char in text
    )
