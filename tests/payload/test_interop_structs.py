"""The layout that ipckit works out is the one that gcc works out, for any struct.

Hypothesis makes up struct definitions; one C program declares a batch of them as
`c_declaration` says, and writes the sizes, the offsets and the bytes of a value.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ipckit import structs
from ipckit._payload.c_types import Scalar
from ipckit.structs import Array, Bytes, Char, Struct, StructType

if TYPE_CHECKING:
    from pathlib import Path

SCALARS = [kind for name in structs.__all__ if isinstance(kind := getattr(structs, name), Scalar)]
SCALAR = st.sampled_from(SCALARS)
TEXT = st.integers(1, 40).map(lambda size: Char[size])
RAW = st.integers(1, 40).map(lambda size: Bytes[size])
LEAF = st.one_of(SCALAR, SCALAR, TEXT, RAW)


def arrays(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    dims = st.lists(st.integers(1, 4), min_size=1, max_size=2)
    return st.tuples(items, dims).map(lambda made: Array[made[0], *made[1]])


@st.composite
def struct_types(draw: st.DrawFn, depth: int = 2) -> StructType:
    inner = struct_types(depth=depth - 1) if depth else LEAF  # type: ignore[call-arg]
    kinds = draw(
        st.lists(st.one_of(LEAF, inner, arrays(LEAF), arrays(inner)), min_size=1, max_size=5)
    )
    fields = {f"f{index}": kind for index, kind in enumerate(kinds)}
    packed = draw(st.booleans())
    return StructType("Made", (Struct,), {"__annotations__": fields}, packed=packed)


def named(struct: StructType, name: str) -> StructType:
    """The same struct, with names that no other struct of the program has."""
    fields: dict[str, Any] = {}
    for field, ctype, _ in struct.__plan__.members:
        fields[field] = renamed(ctype, f"{name}_{field}")
    return StructType(
        name, (Struct,), {"__annotations__": fields}, packed=bool(struct.__plan__.rules.packed)
    )


def renamed(ctype: Any, name: str) -> Any:
    if hasattr(ctype, "item"):
        return Array[renamed(ctype.item, name), ctype.count]
    return named(ctype.struct, name) if hasattr(ctype, "struct") else ctype


def leaves(value: Any, path: str) -> list[tuple[str, Any]]:
    """The C designator and the value of everything in a struct that is no struct."""
    if isinstance(value, Struct):
        return [
            leaf
            for name in value.__match_args__
            for leaf in leaves(getattr(value, name), f"{path}.{name}")
        ]
    if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)):
        return [leaf for i, item in enumerate(value) for leaf in leaves(item, f"{path}[{i}]")]
    return [(path, value)]


def fill(record: Any) -> None:
    """Distinct values everywhere, by way of the fields."""
    for index, (name, ctype, _) in enumerate(type(record).__plan__.members):
        setattr(record, name, example(ctype, index))


def example(ctype: Any, seed: int) -> Any:  # noqa: PLR0911 - one a kind
    if hasattr(ctype, "item"):
        return [example(ctype.item, seed + i) for i in range(ctype.count)]
    if hasattr(ctype, "struct"):
        inner = StructType.zeroed(ctype.struct)
        fill(inner)
        return inner
    code = getattr(ctype, "code", None)
    if code == "?":
        return seed % 2 == 0
    if code == "f":
        return seed + 0.5
    if code == "i":
        return -(1 << (8 * ctype.size - 1)) + seed
    if code == "u":
        return (1 << 8 * ctype.size) - 1 - seed
    text = f"{seed}!~"[: ctype.size]
    return text if type(ctype).__name__ == "Text" else text.encode()


def statement(path: str, value: Any) -> str:
    if isinstance(value, (str, bytes)):
        data = (value.encode() if isinstance(value, str) else value).rstrip(b"\0")
        return f'memcpy({path}, "{data.decode()}", {len(data)});'
    if not isinstance(value, (float, np.floating)):
        number = int(value)
        return f"{path} = {number + 1}LL - 1;" if number < 0 else f"{path} = {number}ULL;"
    return f"{path} = {float(value)!r};"


def program(made: list[StructType]) -> str:
    headers: set[str] = {"#include <stdio.h>", "#include <string.h>", "#include <stddef.h>"}
    texts, body = [], []
    for struct in made:
        declaration = struct.c_declaration()
        headers.update(re.findall("#include.*", declaration))
        texts.append(re.sub("#include.*", "", declaration))
        record = StructType.zeroed(struct)
        fill(record)
        name = struct.__name__
        offsets = [f"offsetof({name}, {field.name})" for field in struct.fields]
        sizes = [f"sizeof((({name} *)0)->{field.name})" for field in struct.fields]
        facts = [f"sizeof({name})", f"_Alignof({name})", *offsets, *sizes]
        body.append(f"{{ {name} v; memset(&v, 0, sizeof v);")
        body += [statement(path, value) for path, value in leaves(record, "v")]
        body += [f'printf("%zu ", (size_t){fact});' for fact in facts]
        body.append(
            'for (size_t i = 0; i < sizeof v; i++) printf("%02x", ((unsigned char *)&v)[i]);\n'
            'printf("\\n"); }'
        )
    return "\n".join([*sorted(headers), *texts, "int main(void) {", *body, "return 0; }"])


def from_ipckit(struct: StructType) -> str:
    record: Any = StructType.zeroed(struct)
    fill(record)
    facts = [struct.size, struct.alignment]
    facts += [field.offset for field in struct.fields] + [field.size for field in struct.fields]
    return " ".join([*map(str, facts), bytes(record).hex()])


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gcc")


def run(text: str, build: Path) -> list[str]:
    source, binary = build / "made.c", build / "made"
    source.write_text(text)
    command = ["gcc", "-std=gnu17", "-O0", "-Wall", "-Werror", "-Wno-address-of-packed-member"]
    subprocess.run([*command, "-o", str(binary), str(source)], check=True)
    return subprocess.run(
        [str(binary)], check=True, capture_output=True, text=True
    ).stdout.splitlines()


@settings(
    max_examples=5,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # shrinking would compile hundreds of programs
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(struct_types(), min_size=20, max_size=30))
def test_gcc_agrees_on_sizes_offsets_and_bytes(build: Path, made: list[StructType]) -> None:
    structs_ = [named(struct, f"S{index}") for index, struct in enumerate(made)]
    for struct, line in zip(structs_, run(program(structs_), build), strict=True):
        assert line == from_ipckit(struct), struct.c_declaration()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(struct_types())
def test_a_declaration_reads_back_as_the_same_layout(made: StructType) -> None:
    struct = named(made, "S")
    again = Struct.from_c(struct.c_declaration())
    assert again.fingerprint == struct.fingerprint
    assert again.fields == struct.fields


def test_every_scalar_type_at_once(build: Path) -> None:
    fields: dict[str, Any] = {}
    for index, kind in enumerate(SCALARS):
        fields[f"pad{index}"] = structs.Int8
        fields[f"f{index}"] = kind
    for packed in (False, True):
        struct = StructType("All", (Struct,), {"__annotations__": fields}, packed=packed)
        assert run(program([struct]), build)[0] == from_ipckit(struct)


def test_the_declaration_of_swapped_numbers_says_so() -> None:
    for endian in ("little", "big"):
        struct = StructType(
            "S", (Struct,), {"__annotations__": {"a": structs.Int, "b": Char[4]}}, endian=endian
        )
        native = struct.fingerprint == Struct.from_c("struct s { int a; char b[4]; };").fingerprint
        assert ("-endian" in struct.c_declaration()) is not native
        same = Struct.from_c(struct.c_declaration(), endian=endian)
        assert same.fingerprint == struct.fingerprint
