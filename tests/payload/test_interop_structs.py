"""The layout that ipckit works out is the one that gcc and clang work out, for any struct.

Hypothesis generates Struct classes. One C program for a batch of them writes and reads the fields;
see helpers/c_structs.py. The soak tests do the same for thousands.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from c_structs import SCALARS, check, struct_types
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ipckit import structs
from ipckit.structs import Aligned, Array, At, Bits, Bytes, Char, Int, Struct, StructType, UInt

if TYPE_CHECKING:
    from pathlib import Path

    from ipckit.structs import FieldInfo

COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name}"))
    for name in ("gcc", "clang")
]
LEAF = st.one_of(
    st.sampled_from(SCALARS),
    st.integers(1, 40).map(lambda size: Char[size]),
    st.integers(1, 40).map(lambda size: Bytes[size]),
)


def arrays(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    dims = st.lists(st.integers(1, 4), min_size=1, max_size=2)
    return st.tuples(items, dims).map(lambda made: Array[made[0], *made[1]])


@st.composite
def plain_types(draw: st.DrawFn, name: str = "S", depth: int = 2) -> StructType:
    """A struct of scalars, text, arrays and structs."""
    fields: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 5))):
        inner = plain_types(f"{name}_f{index}", depth - 1) if depth else LEAF
        kinds = st.one_of(LEAF, inner, arrays(LEAF), arrays(inner))
        fields[f"f{index}"] = draw(kinds)
    packed = draw(st.booleans())
    return StructType(name, (Struct,), {"__annotations__": fields}, packed=packed)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.mark.parametrize("compiler", COMPILERS)
@settings(
    max_examples=3,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # shrinking would compile hundreds of programs
    suppress_health_check=list(HealthCheck),
)
@given(made=st.lists(struct_types(), min_size=20, max_size=30))
def test_compilers_agree_on_places_and_values(
    build: Path, compiler: str, made: list[StructType]
) -> None:
    check(made, compiler, build)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(plain_types())
def test_a_declaration_reads_back_as_the_same_layout(struct: StructType) -> None:
    again = Struct.from_c(struct.c_declaration())
    assert again.fingerprint == struct.fingerprint
    assert [field[:3] for field in again.fields] == [field[:3] for field in struct.fields]


def place(field: FieldInfo) -> tuple[str, int, int]:
    """Return a field's name, and its first bit and number of bits in the struct.

    From which byte the bits of a bit-field are counted is up to the struct around it.
    """
    name, offset, size = field[:3]
    first, width = field.bits or (0, 8 * size)
    return name, 8 * offset + first, width


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(struct_types())
def test_a_declaration_of_any_struct_reads_back_with_the_same_places(struct: StructType) -> None:
    again: StructType = Struct.from_c(struct.c_declaration(), struct.__name__)
    assert (again.size, again.alignment) == (struct.size, struct.alignment)
    found = [place(field) for field in again.fields if field.name[:7] != "padding"]
    assert found == [place(field) for field in struct.fields]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_scalar_type_at_once(build: Path, compiler: str) -> None:
    made: list[StructType] = []
    for packed in (0, 1, 2, 4, 8, 16):
        fields: dict[str, Any] = {}
        for index, kind in enumerate(SCALARS):
            fields[f"pad{index}"] = structs.Int8
            fields[f"f{index}"] = kind
            if kind.code in "iu":
                fields[f"b{index}"] = Bits[kind, 3]
                fields[f"z{index}"] = Bits[kind, 0]
        annotations = {"__annotations__": fields}
        made.append(StructType(f"All{packed}", (Struct,), annotations, packed=packed))
    check(made, compiler, build)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_places_that_no_rule_gives(build: Path, compiler: str) -> None:
    class Odd(Struct, size=64):
        a: Bits[UInt, 3]
        b: At[Bits[UInt, 4], 0, 4]
        c: At[Bits[UInt, 31], 3, 5]
        d: At[Int, 13]
        e: At[Aligned[Char[3], 8], 24]
        f: At[Bits[UInt, 9], 40, 7]

    class Values(structs.Union):
        a: At[structs.Double, 3]
        b: Int
        c: At[Bits[UInt, 7], 5, 3]

    check([Odd, Values], compiler, build)
    assert "unsigned int c : 31 __attribute__((packed));" in Odd.c_declaration()
    assert "int d __attribute__((packed));" in Odd.c_declaration()


def test_the_declaration_of_swapped_numbers_says_so() -> None:
    for endian in ("little", "big"):
        struct = StructType(
            "S", (Struct,), {"__annotations__": {"a": structs.Int, "b": Char[4]}}, endian=endian
        )
        native = struct.fingerprint == Struct.from_c("struct s { int a; char b[4]; };").fingerprint
        assert ("-endian" in struct.c_declaration()) is not native
        same = Struct.from_c(struct.c_declaration(), endian=endian)
        assert same.fingerprint == struct.fingerprint
