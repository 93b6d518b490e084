"""Find the directories of the C headers that this machine has.

libclang comes without headers, and does not know where the compiler of this machine has its own.
So the compiler is asked. Without a compiler, well-known directories are taken. The last directory
is `include` beside this file: it has the few headers that a struct needs at least.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

_OWN: Final = str(Path(__file__).with_name("include"))
_TIMEOUT: Final = 5.0  # seconds; gcc answers in 20 ms
_LISTED: Final = re.compile(
    r"^#include <\.\.\.> search starts here:\n(.*?)^End of search list", re.MULTILINE | re.DOTALL
)
_TARGET: Final = re.compile(r"^Target: (\S+)", re.MULTILINE)
_X86: Final = re.compile(r"i[3-6]86|x86_64|amd64|x86")
# Names of one architecture in triples, and what `uname -m` calls it.
_SAME: Final = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "powerpc64": "ppc64",
    "powerpc64le": "ppc64le",
    "powerpc": "ppc",
}


def directories(target: str | None) -> tuple[str, ...]:
    """Return the directories of the system's headers, in the order of the search.

    Never raises: without a compiler and without headers, the result is one directory.

    Args:
        target: an LLVM triple, or None for this machine.
    """
    return _directories(target, os.environ.get("CC", ""), os.environ.get("PATH", ""))


@cache
def _directories(target: str | None, cc: str, path: str) -> tuple[str, ...]:
    machine = _architecture(os.uname().machine)
    wanted = machine if target is None else _architecture(target)
    if _is_native(wanted, machine):
        found = _asked(_compilers(cc, path), wanted) or _well_known(wanted)
        return (*found, _OWN)
    found = _asked([[f"{target}-gcc"]], wanted)
    found = found or _existing(f"/usr/{target}/include", f"/usr/include/{target}")
    # The headers in /usr/include need those of the architecture, so without these they come last.
    generic = _existing("/usr/include")
    found = tuple(name for name in found if name not in generic)
    return (*found, *generic, _OWN) if found else (_OWN, *generic)


def _architecture(triple: str) -> str:
    name = triple.partition("-")[0]
    return _SAME.get(name, name)


def _is_native(wanted: str, machine: str) -> bool:
    """Return whether this machine's headers serve an architecture: 64-bit x86 has both."""
    return wanted == machine or bool(_X86.fullmatch(wanted) and _X86.fullmatch(machine))


def _compilers(cc: str, path: str) -> list[list[str]]:
    try:
        chosen = shlex.split(cc)
    except ValueError:
        chosen = []
    names = [chosen] if chosen else []
    names += [[name] for name in ("cc", "gcc", "clang")]
    return [words for words in names if shutil.which(words[0], path=path)]


def _asked(compilers: list[list[str]], wanted: str) -> tuple[str, ...]:
    """Ask one compiler after the other, and return what the first one says."""
    for words in compilers:
        command = [*words, "-E", "-v", "-x", "c", os.devnull]
        environment = os.environ | {"LC_ALL": "C"}
        try:
            done = subprocess.run(  # noqa: S603 - the user's own compiler
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
                env=environment,
            )
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
        said = os.fsdecode(done.stderr)
        listed, target = _LISTED.search(said), _TARGET.search(said)
        if listed is None:
            continue
        # A cross compiler in $CC has the headers of another machine.
        if target is not None and not _is_native(_architecture(target[1]), wanted):
            continue
        found = _existing(*(line.strip() for line in listed[1].splitlines()))
        if found:
            return found
    return ()


def _well_known(wanted: str) -> tuple[str, ...]:
    """The directories in which distributions have their headers."""
    triples = sorted(str(each) for each in Path("/usr/include").glob("*-linux-*"))
    machine = _architecture(os.uname().machine)
    return _existing(
        *sorted(map(str, Path("/usr/lib/gcc").glob("*/*/include")), reverse=True)[:1],
        *sorted(map(str, Path("/usr/lib").glob("llvm-*/lib/clang/*/include")), reverse=True)[:1],
        *sorted(map(str, Path("/usr/lib/clang").glob("*/include")), reverse=True)[:1],
        "/usr/local/include",
        *(each for each in triples if _architecture(Path(each).name) in (wanted, machine)),
        "/usr/include",
    )


def _existing(*names: str) -> tuple[str, ...]:
    """Return those that are directories, without duplicates."""
    return tuple(dict.fromkeys(str(Path(name)) for name in names if Path(name).is_dir()))
