# ruff: noqa: E501 - the texts are one a line
"""Where C text finds its headers, and which names and macros it knows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ipckit._payload import c_includes, c_reader
from ipckit._payload.c_declarations import (
    Location,
    RecordType,
    ScalarType,
)
from ipckit._payload.c_problems import invalid
from ipckit._payload.c_source import Options
from ipckit.errors import InvalidSource


def read(text: str, name: str | None = "s", **options: Any) -> RecordType:
    found = c_reader.read(text, name, options=Options(**options))
    assert not found.problems
    return found.records[0]


def problems(text: str, name: str | None = None, **options: Any) -> str:
    with pytest.raises(InvalidSource) as caught:
        raise invalid([*c_reader.read(text, name, options=Options(**options)).problems])
    assert caught.value.problems
    return str(caught.value.strerror)


# -- what is included ------------------------------------------------------------------------------


def test_a_header_is_found_in_a_directory_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "my.h").write_text(
        '#pragma once\n#include "sub/deep.h"\nstruct s { T a; int b; };\n'
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/deep.h").write_text("typedef char T;\n")
    text = "#include <my.h>\nstruct t { struct s a; };"
    options = Options(include_dirs=(str(tmp_path),))
    found = c_reader.read(text, "s", options=options)
    assert found.records[0].location == Location(str(tmp_path / "my.h"), 3)
    assert found.files == (str(tmp_path / "my.h"), str(tmp_path / "sub/deep.h"))
    assert c_reader.read(text, None, options=options).records[0].name == "t"
    everything = c_reader.read(text, None, options=options, every=True)
    assert [each.name for each in everything.records] == ["t"]


def test_a_header_is_found_beside_the_text(tmp_path: Path) -> None:
    (tmp_path / "my.h").write_text("typedef char T;\n")
    text = '#include "my.h"\nstruct s { T a; };'
    found = c_reader.read(text, "s", options=Options(), filename=str(tmp_path / "main.h"))
    assert found.records[0].location == Location(str(tmp_path / "main.h"), 2)


def test_a_name_that_is_not_utf_8_is_passed_on(tmp_path: Path) -> None:
    directory = tmp_path / os.fsdecode(b"d\xff")
    directory.mkdir()
    (directory / "my.h").write_text("struct s { int a; };\n")
    found = c_reader.read("#include <my.h>", "s", options=Options(include_dirs=(str(directory),)))
    assert found.records[0].location.file == str(directory / "my.h")
    assert found.files == (str(directory / "my.h"),)


def test_macros_can_be_defined() -> None:
    text = "struct s { char a; int b[N]; } PACKED;"
    packed = ("PACKED", "__attribute__((packed))")
    assert read(text, defines=(packed, ("N", "3"))).size == 13
    call = "struct s { char a[TWICE(4)]; };"
    assert read(call, defines=(("TWICE(x)", "((x) * 2)"),)).size == 8


@pytest.mark.parametrize("name", ["", "a b", "1a", "-I/tmp", "A=1"])
def test_what_is_no_macro_is_refused(name: str) -> None:
    assert "defines: " in problems("struct s { int a; };", defines=((name, "1"),))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("struct s { uint8_t a; uint16_t b; int64_t c; };", 16),
        ("struct s { char a; ssize_t b; pid_t c; uid_t d; off_t e; };", 32),
        ("struct s { __u8 a; __u32 b; __be16 c; time_t d; key_t e; };", 32),
        ("struct s { uint8_t a; };\n#include <stdint.h>\n#include <sys/types.h>", 1),
        ("struct s { bool a; };\n#include <stdbool.h>\nbool x = true;", 1),
    ],
)
def test_common_names_are_known_without_an_include(text: str, size: int) -> None:
    found = read(text)
    assert found.size == size
    assert found.location.line == 1


def test_an_include_without_a_file_says_what_to_do() -> None:
    said = problems('#include <no/such.h>\n#include "other.h"\nstruct s { int a; };')
    assert said.splitlines() == [
        "<text>:1: the included file no/such.h is not found; name its directory in include_dirs=",
        "<text>:2: the included file other.h is not found; name its directory in include_dirs=",
    ]


def test_own_headers_serve_a_machine_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    own = c_includes.directories(None)[-1]
    monkeypatch.setattr(c_includes, "directories", lambda _target: (own,))
    for header in sorted(Path(own).rglob("*.h")):
        name = header.relative_to(own)
        assert read(f"#include <{name}>\nstruct s {{ int a; }};").size == 4
    text = (
        "#include <stdint.h>\n#include <stddef.h>\n#include <stdbool.h>\n#include <sys/types.h>\n"
        "struct s { uint8_t a; size_t b; bool c; pid_t d; off_t e; __u32 f; int_fast16_t g;"
        " char h[UINT8_MAX]; };"
    )
    there = read(text)
    monkeypatch.undo()
    here = read(text)
    assert [(each.name, each.bit_offset) for each in there.members] == [
        (each.name, each.bit_offset) for each in here.members
    ]


OWN_TYPES = [
    "int8_t",
    "int16_t",
    "int32_t",
    "int64_t",
    "uint8_t",
    "uint16_t",
    "uint32_t",
    "uint64_t",
    "int_least8_t",
    "int_least16_t",
    "int_least32_t",
    "int_least64_t",
    "uint_least8_t",
    "uint_least16_t",
    "uint_least32_t",
    "uint_least64_t",
    "int_fast8_t",
    "int_fast16_t",
    "int_fast32_t",
    "int_fast64_t",
    "uint_fast8_t",
    "uint_fast16_t",
    "uint_fast32_t",
    "uint_fast64_t",
    "intptr_t",
    "uintptr_t",
    "intmax_t",
    "uintmax_t",
    "size_t",
    "ssize_t",
    "ptrdiff_t",
    "wchar_t",
    "u_char",
    "u_short",
    "u_int",
    "u_long",
    "ushort",
    "uint",
    "ulong",
    "u_int8_t",
    "u_int16_t",
    "u_int32_t",
    "u_int64_t",
    "pid_t",
    "uid_t",
    "gid_t",
    "id_t",
    "mode_t",
    "key_t",
    "clockid_t",
    "clock_t",
    "suseconds_t",
    "useconds_t",
    "dev_t",
    "off64_t",
    "loff_t",
    "time_t",
    "off_t",
    "ino_t",
    "blkcnt_t",
    "fsblkcnt_t",
    "fsfilcnt_t",
    "nlink_t",
    "blksize_t",
    "max_align_t",
    "__s8",
    "__u8",
    "__s16",
    "__u16",
    "__s32",
    "__u32",
    "__s64",
    "__u64",
    "__le16",
    "__be16",
    "__le32",
    "__be32",
    "__le64",
    "__be64",
    "__sum16",
    "__wsum",
    "__poll_t",
    "__aligned_u64",
    "__aligned_be64",
    "__aligned_le64",
]


@pytest.mark.parametrize("target", [None, "i686-linux-gnu"])
def test_own_headers_say_what_the_systems_do(
    target: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    includes = "".join(
        f"#include <{name}>\n"
        for name in ("stdint.h", "stddef.h", "sys/types.h", "sys/time.h", "linux/types.h")
    )
    members = "".join(f"{name} m{number}; " for number, name in enumerate(OWN_TYPES))
    text = f"#define _GNU_SOURCE\n{includes}struct s {{ {members} struct timeval tv; struct timespec ts; }};"
    system = read(text, target=target)
    own = c_includes.directories(None)[-1]
    monkeypatch.setattr(c_includes, "directories", lambda _target: (own,))
    mine = read(text, target=target)

    def described(record: RecordType) -> list[tuple[str, object]]:
        kinds = [each.type for each in record.members]
        return [
            (name, (kind.kind, kind.size, kind.alignment))
            for name, kind in zip(OWN_TYPES, kinds, strict=False)
            if isinstance(kind, (ScalarType, RecordType))
        ]

    assert described(mine) == described(system)
    assert mine.size == system.size


def test_a_cross_compiler_is_not_asked_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cross"
    lines = [
        "Target: avr-none",
        "#include <...> search starts here:",
        f" {tmp_path}",
        "End of search list.",
    ]
    compiler.write_text("#!/bin/sh\ncat >&2 <<'END'\n" + "\n".join(lines) + "\nEND\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert str(tmp_path) not in c_includes.directories(None)
    compiler.write_text(compiler.read_text().replace("avr-none", f"{os.uname().machine}-linux-gnu"))
    monkeypatch.setenv("CC", f"{compiler} -O2")
    assert c_includes.directories(None)[0] == str(tmp_path)


@pytest.mark.parametrize("cc", ["", "/no/such/compiler", "'unclosed", "false", "yes"])
def test_a_machine_without_a_compiler_has_directories(
    cc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", cc)
    monkeypatch.setattr(c_includes, "_TIMEOUT", 0.5)
    if cc in ("", "false"):
        monkeypatch.setenv("PATH", "/nowhere:/bin" if cc else "/nowhere")
    found = c_includes.directories(None)
    assert "/usr/include" in found
    assert found[-1].endswith("/_payload/include")
