"""The addresses of objects: System V keys, and POSIX names."""

from __future__ import annotations

import errno
import os
from typing import Final, Self

from ipckit._core.arguments import int_argument
from ipckit.errors import InvalidArgument, NotFound, from_errno

_KEY_MIN: Final = -(2**31)
_KEY_END: Final = 2**32
_PROJ_MAX: Final = 255
_NAME_MAX: Final = 255


class Key(int):
    """A System V key, by which `msgget`, `shmget` and `semget` find an object.

    A key is a signed 32-bit number. The unsigned number that ``ipcs`` prints is the same key.

    Args:
        value: the number, from -2**31 to 2**32 - 1. It can't be 0, because that is IPC_PRIVATE,
            which finds no object.

    Raises:
        TypeError: `value` is not an int.
        InvalidArgument: `value` is 0 or out of range.

    Example:
        >>> from ipckit import Key
        >>> Key(0xDEADBEEF)
        Key(0xdeadbeef)
        >>> Key(0xDEADBEEF) == -559038737
        True

    See sysvipc(7).
    """

    def __new__(cls, value: int) -> Self:
        value = int_argument("a key", value)
        if not _KEY_MIN <= value < _KEY_END:
            message = f"key {value} is out of range; a key is {_KEY_MIN} to {_KEY_END - 1}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        if value == 0:
            message = "key 0 is IPC_PRIVATE, which no process can open; use key=None for a free key"
            raise InvalidArgument(message, errno=errno.EINVAL)
        return super().__new__(cls, value - 2**32 if value >= 2**31 else value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key that a person wrote.

        Args:
            text: a decimal number, or a hexadecimal number with ``0x``.

        Raises:
            InvalidArgument: the text is not such a number, or the number is out of range.

        Example:
            >>> from ipckit import Key
            >>> Key.parse("1234") == Key.parse("0x4d2")
            True
        """
        try:
            return cls(int(text, 0))
        except InvalidArgument:
            raise
        except ValueError:
            message = f"{text!r} is not a key; write it as 1234 or 0x4d2"
            raise InvalidArgument(message, errno=errno.EINVAL) from None

    @classmethod
    def from_name(cls, name: str) -> Self:
        """Hash a name to a key from 1 to 2**31 - 1, the same in every process and on every machine.

        Two names have the same key with a probability of one in 2**31.

        Args:
            name: a text that is not empty.

        Raises:
            TypeError: `name` is not a str.
            InvalidArgument: `name` is empty, or UTF-8 can't encode it.

        Example:
            >>> from ipckit import Key
            >>> Key.from_name("frames") == Key.from_name("frames")
            True
        """
        if not isinstance(name, str):
            message = f"a name must be a str, not {type(name).__name__}"
            raise TypeError(message)
        try:
            # The name of a file can be any bytes, which this keeps.
            data = name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            data = b""
        if not data:
            message = f"no key for the name {name!r}: it is empty, or UTF-8 can't encode it"
            raise InvalidArgument(message, errno=errno.EINVAL)
        import hashlib  # noqa: PLC0415 - it takes longer to import than this module

        digest = hashlib.blake2b(data, digest_size=4).digest()
        return cls(int.from_bytes(digest, "big") % (2**31 - 1) + 1)

    @classmethod
    def random(cls) -> Self:
        """Choose a random key from 1 to 2**31 - 1, which is probably free."""
        return cls(int.from_bytes(os.urandom(4), "little") % (2**31 - 1) + 1)

    def __repr__(self) -> str:
        return f"Key({self:#010x})"

    def __str__(self) -> str:
        return int.__repr__(self)

    def __format__(self, spec: str) -> str:
        # In hexadecimal a key is unsigned, as ipcs shows it.
        return format(self & 0xFFFFFFFF if spec[-1:] in {"x", "X"} else int(self), spec)


class Name(str):
    """A POSIX IPC name: a slash, then 1 to 255 bytes of UTF-8 with no other slash.

    Args:
        value: the name; the first slash is optional.

    Raises:
        TypeError: `value` is not a str.
        InvalidArgument: `value` is empty, ``.`` or ``..``, has a slash inside or a NUL, is too
            long, or UTF-8 can't encode it.

    Example:
        >>> from ipckit import Name
        >>> Name("frames")
        '/frames'

    See mq_overview(7), shm_overview(7) and sem_overview(7).
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        if not isinstance(value, str):
            message = f"a name must be a str, not {type(value).__name__}"
            raise TypeError(message)
        bare = value.removeprefix("/")
        length = len(bare.encode("utf-8", "replace"))
        problem = ""
        if any("\ud800" <= letter <= "\udfff" for letter in bare):
            problem = "UTF-8 can't encode it"
        elif not bare:
            problem = "it is empty"
        elif "/" in bare:
            problem = "it has a slash after the first character"
        elif "\0" in bare:
            problem = "it has a NUL character"
        elif bare in {".", ".."}:
            problem = "it names a directory"
        elif length > _NAME_MAX:
            problem = f"it has {length} bytes after the slash, and at most {_NAME_MAX} are allowed"
        if problem:
            shown = value if len(value) <= 2 * _NAME_MAX else value[:32] + "…"
            message = f"{shown!r} can't be a POSIX IPC name: {problem}"
            code = errno.ENAMETOOLONG if length > _NAME_MAX else errno.EINVAL
            raise InvalidArgument(message, errno=code, hint='a name looks like "/frames"')
        return super().__new__(cls, "/" + bare)

    @classmethod
    def random(cls, prefix: str = "ipckit") -> Self:
        """Choose a random name of 64 bits, such as ``/ipckit-c0ffee0123456789``.

        Args:
            prefix: the first part of the name; ``"ipckit"`` by default.
        """
        return cls(f"/{prefix}-{os.urandom(8).hex()}")


def ftok(path: str | bytes | os.PathLike[str] | os.PathLike[bytes], proj: int | str) -> Key:
    """Derive a key from a file and a project number, as the C library does.

    The key has 8 bits of the project, 8 of the device and 16 of the inode. So two files can have
    the same key, and a file that is deleted and created again has another key.

    Args:
        path: a file that exists and that both sides can reach.
        proj: 1 to 255, or one ASCII character.

    Raises:
        TypeError: `proj` is neither an int nor a str.
        InvalidArgument: `proj` is out of range, or `path` has a NUL.
        NotFound: the file does not exist.
        AccessDenied: a directory of the path can't be searched.

    Example:
        >>> from ipckit import ftok
        >>> ftok("/", "a") == ftok("/", ord("a"))
        True

    See ftok(3).
    """
    if isinstance(proj, str):
        if len(proj) != 1 or not proj.isascii():
            message = f"proj must be one ASCII character, or 1 to {_PROJ_MAX}, not {proj!r}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        proj = ord(proj)
    proj = int_argument("proj", proj, "an int or a character")
    if not 1 <= proj <= _PROJ_MAX:
        message = f"proj must be 1 to {_PROJ_MAX}, not {proj}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    file = os.fspath(path)
    try:
        # What the C library does. sysv_ipc.ftok takes no name that is not UTF-8.
        found = os.stat(file)  # noqa: PTH116 - the name may be bytes
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFound(
            "no such file",
            errno=exc.errno or errno.ENOENT,
            op="ftok",
            target=os.fsdecode(file),
            hint="the file must exist before a key is derived from it",
        ) from None
    except OSError as exc:
        code = exc.errno or errno.EINVAL
        raise from_errno(code, op="ftok", target=os.fsdecode(file)) from None
    except ValueError as exc:
        message = f"path is {file!r}: {exc}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="ftok") from None
    return Key((proj & 0xFF) << 24 | (found.st_dev & 0xFF) << 16 | found.st_ino & 0xFFFF)
