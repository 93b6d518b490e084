"""Generated Struct classes, and C programs that write and read their fields.

A program declares a batch of structs as `c_declaration` does. For each it prints the size, the
alignment and the offsets, the bytes after a value was written into every field, and the values
that it reads from other bytes. `expected` does the same in Python.
"""

from __future__ import annotations

import itertools
import random
import re
import subprocess
import sys
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from hypothesis import strategies as st

from ipckit import structs
from ipckit._payload.arrays import ArrayOf, FlexibleArray
from ipckit._payload.c_declaration import Declaration
from ipckit._payload.c_types import BitField, Enumeration, Nested, Scalar, Text, unwrapped
from ipckit._payload.fields import ctype_of
from ipckit._payload.placement import PACKINGS, bits_of, lay_out
from ipckit.structs import (
    Aligned,
    Anonymous,
    Array,
    At,
    Bits,
    Bytes,
    Char,
    Struct,
    StructType,
    Union,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ipckit._payload.plan import Plan


class Color(IntEnum):
    RED = 1
    GREEN = 2
    new = 3


class Signed(IntEnum):
    LOW = -3
    HIGH = 3


class Wide(IntEnum):
    ONE = 1
    FAR = 1 << 40


class Flags(IntFlag):
    A = 1
    B = 2
    AB = 3
    TOP = 1 << 31


class Nothing(IntEnum):
    pass


SCALARS = [kind for name in structs.__all__ if isinstance(kind := getattr(structs, name), Scalar)]
INTEGERS = [kind for kind in SCALARS if kind.code in "iu"]
NUMBER = itertools.count()
BYTE = 8

SCALAR = st.sampled_from(SCALARS)
TEXT = st.integers(1, 40).map(lambda size: Char[size])
RAW = st.integers(1, 40).map(lambda size: Bytes[size])
ALIGNMENT = st.sampled_from([1, 2, 4, 8, 16, 32])
OPAQUE = st.tuples(st.integers(1, 20), ALIGNMENT).map(
    lambda made: structs.Opaque[made[0], made[1], "void */*"]
)
ENUM = st.one_of(
    st.sampled_from([Color, Signed, Wide, Flags, Nothing]),
    st.sampled_from([Annotated[Color, structs.UInt8], Annotated[Flags, structs.Long]]),
)
LEAF = st.one_of(SCALAR, SCALAR, TEXT, RAW, ENUM, OPAQUE)
FLEXIBLE = st.one_of(
    st.sampled_from([Char[...], Bytes[...]]),
    st.one_of(SCALAR, TEXT, RAW).map(lambda kind: Array[kind, ...]),
)


@st.composite
def bit_fields(draw: st.DrawFn) -> Any:
    kind = draw(st.one_of(st.sampled_from(INTEGERS), st.just(structs.Bool), ENUM))
    most = 8 * structs_size(kind)
    width = draw(st.sampled_from([0, 1, 2, 3, 5, 7, 8, 9, 12, 15, 17, 20, 31, 33, 47, 64]))
    return Bits[kind, min(width, 1 if kind is structs.Bool else most)]


def structs_size(kind: Any) -> int:
    return int(StructType("Size", (Struct,), {"__annotations__": {"x": kind}}).size)


def _is_item(kind: Any) -> bool:
    ctype = ctype_of(kind)
    return not ctype.flexible and not ctype.size % ctype.alignment


def _is_unnamed(kind: Any) -> bool:
    ctype = unwrapped(kind)
    return isinstance(ctype, BitField) and not ctype.width


def arrays(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    dims = st.lists(st.integers(1, 3), min_size=1, max_size=2)
    return st.tuples(items.filter(_is_item), dims).map(lambda made: Array[made[0], *made[1]])


@st.composite
def struct_types(draw: st.DrawFn, depth: int = 2, *, flexible: bool = True) -> StructType:
    """A Struct or Union class with a name of its own, and fields with names of their own."""
    union = draw(st.integers(0, 4)) == 0
    packed = draw(st.sampled_from([0, 0, *PACKINGS]))
    inner = struct_types(depth=depth - 1, flexible=False) if depth else LEAF
    aligned = st.tuples(st.one_of(LEAF, inner), ALIGNMENT).map(lambda made: Aligned[made])
    opaque_free = st.one_of(SCALAR, SCALAR, TEXT, RAW, ENUM)
    member = st.one_of(
        LEAF, LEAF, bit_fields(), bit_fields(), inner, arrays(opaque_free), arrays(inner), aligned
    )
    types: dict[str, Any] = {}
    for kind in draw(st.lists(member, min_size=1, max_size=6)):
        made: Any = kind
        if isinstance(kind, StructType) and draw(st.booleans()):
            made = Anonymous[kind]
        elif draw(st.integers(0, 9)) == 0:
            made = _placed(draw, made, types, union=union, packed=packed)
        types[f"m{next(NUMBER)}"] = made
    if flexible and draw(st.integers(0, 3)) == 0:
        types[f"m{next(NUMBER)}"] = draw(FLEXIBLE)
    rules: dict[str, Any] = {"packed": packed}
    if draw(st.integers(0, 4)) == 0:
        rules["align"] = draw(ALIGNMENT)
    if not any(getattr(kind, "flexible", False) for kind in types.values()):
        rules["size"] = draw(st.sampled_from([0, 0, 0, 3, 17, 40, 200]))
    base = Union if union else Struct
    if all(_is_unnamed(kind) for kind in types.values()):
        types[f"m{next(NUMBER)}"] = structs.Int
    return StructType(f"S{next(NUMBER)}", (base,), {"__annotations__": types}, **rules)


def _placed(draw: st.DrawFn, kind: Any, types: dict[str, Any], *, union: bool, packed: int) -> Any:
    """The type at a place after the other members, or anywhere in a union."""
    end = 0
    if types and not union:
        plan = StructType(
            "Before", (Struct,), {"__annotations__": dict(types)}, packed=packed
        ).__plan__
        places = lay_out(plan.types.values(), plan.rules)
        end = max(
            bit + bits_of(ctype)
            for bit, ctype in zip(places.bits, plan.types.values(), strict=True)
        )
    if isinstance(kind, BitField):
        bit = end + draw(st.integers(0, 40))
        return At[kind, bit // BYTE, bit % BYTE]
    return At[kind, -(-end // BYTE) + draw(st.integers(0, 9))]


def swapped(struct: StructType) -> StructType:
    """Return the same struct in the byte order that this machine does not use."""
    plan = struct.__plan__
    rules = plan.rules
    return StructType(
        plan.name,
        (Union if rules.union else Struct,),
        {"__annotations__": plan.types},
        packed=rules.packed,
        align=rules.align,
        size=rules.size,
        endian="big" if sys.byteorder == "little" else "little",
    )


# -- values ----------------------------------------------------------------------------------------


class Leaf(NamedTuple):
    """A field that is no struct and no array: its place in C, its type, and how Python has it."""

    path: str
    ctype: Any
    container: Any
    key: Any

    def get(self) -> Any:
        if isinstance(self.key, str):
            return getattr(self.container, self.key)
        return self.container[self.key]

    def set(self, value: Any) -> None:
        if isinstance(self.key, str):
            setattr(self.container, self.key, value)
        else:
            self.container[self.key] = value


def leaves(record: Any, declaration: Declaration, path: str) -> Iterator[Leaf]:
    plan: Plan = type(record).__plan__
    for entry in plan.entries:
        place = path + declaration.member_name(plan, entry.name)
        yield from _leaves(Leaf(place, entry.ctype, record, entry.name), declaration)


def _leaves(leaf: Leaf, declaration: Declaration) -> Iterator[Leaf]:
    kind = unwrapped(leaf.ctype)
    if isinstance(kind, Nested):
        yield from leaves(leaf.get(), declaration, f"{leaf.path}.")
    elif isinstance(kind, FlexibleArray) and kind.is_bytes:
        yield Leaf(leaf.path, kind, leaf.container, leaf.key)
    elif isinstance(kind, (ArrayOf, FlexibleArray)):
        items = leaf.get()
        for index in range(len(items)):
            item = Leaf(f"{leaf.path}[{index}]", kind.item, items, index)
            yield from _leaves(item, declaration)
    else:
        yield Leaf(leaf.path, kind, leaf.container, leaf.key)


def _bounds(kind: Any) -> tuple[int, int]:
    integer = kind.integer if isinstance(kind, (BitField, Enumeration)) else kind
    width = kind.width if isinstance(kind, BitField) else 8 * kind.size
    if integer.code == "?":
        return 0, 1
    return (
        (-(1 << width - 1), (1 << width - 1) - 1) if integer.code == "i" else (0, (1 << width) - 1)
    )


def _value(kind: Any, rng: random.Random) -> Any:
    if isinstance(kind, Scalar) and kind.code == "f":
        return rng.randrange(-1000, 1000) / 8
    if isinstance(kind, (Scalar, BitField, Enumeration)):
        low, high = _bounds(kind)
        value = rng.choice([low, high, rng.randint(low, high)])
        integer = kind if isinstance(kind, Scalar) else kind.integer
        return bool(value) if integer.code == "?" else value
    if isinstance(kind, Text):
        return "".join(rng.choices("abcxyz!", k=rng.randint(0, kind.size)))
    return bytes(rng.choices(b"abcxyz!", k=kind.size))


def _statement(path: str, kind: Any, value: Any) -> str:
    if isinstance(value, (str, bytes)):
        data = value.encode() if isinstance(value, str) else value
        size = kind.size
        return f'memset({path}, 0, {size}); memcpy({path}, "{data.decode()}", {len(data)});'
    if isinstance(value, float):
        return f"{path} = {value!r};"
    number = int(value)
    return f"{path} = {number + 1}LL - 1;" if number < 0 else f"{path} = {number}ULL;"


def _new(struct: StructType) -> Any:
    plan = struct.__plan__
    extra = 23 if plan.flexible else 0
    return StructType.from_bytes(struct, bytes(plan.minimum + extra))


def _facts(struct: StructType, declaration: Declaration) -> Iterator[tuple[str, int]]:
    plan = struct.__plan__
    name = declaration.type_name(plan)
    yield f"sizeof({name})", struct.size
    yield f"_Alignof({name})", struct.alignment
    for field in struct.fields:
        if field.bits is None:
            own = declaration.member_name(plan, field.name)
            yield f"offsetof({name}, {own})", field.offset


def _read(leaf: Leaf) -> bool:
    """Whether any bytes are a value that C and Python read alike."""
    kind = leaf.ctype
    integer = kind.integer if isinstance(kind, (BitField, Enumeration)) else kind
    return isinstance(integer, Scalar) and integer.code in "iu"


class Case(NamedTuple):
    """One struct: the C text of its part of the program, and what the program must print."""

    struct: StructType
    declaration: Declaration
    code: str
    expected: str


def case(struct: StructType, seed: int) -> Case:
    rng = random.Random(seed)
    declaration = Declaration(struct.__plan__)
    name = declaration.type_name(struct.__plan__)
    record = _new(struct)
    size = memoryview(record).nbytes
    room = max(size, struct.size)
    code = [f"{{ static _Alignas(64) unsigned char m[{room} + 1]; {name} *v = ({name} *)m;"]
    shown: list[str] = []
    for fact, value in _facts(struct, declaration):
        code.append(f'printf("%zu ", (size_t){fact});')
        shown.append(str(value))
    for leaf in leaves(record, declaration, "v->"):
        if isinstance(leaf.ctype, FlexibleArray):
            continue
        value = _value(leaf.ctype, rng)
        leaf.set(value)
        code.append(_statement(leaf.path, leaf.ctype, value))
    code.append(f'for (int i = 0; i < {size}; i++) printf("%02x", m[i]);')
    shown.append(bytes(record).hex())
    random_bytes = rng.randbytes(size)
    literal = ",".join(map(str, random_bytes))
    if size:
        code.append(f"memcpy(m, (unsigned char[]){{{literal}}}, {size});")
    again = StructType.from_bytes(struct, random_bytes)
    for leaf in leaves(again, declaration, "v->"):
        if _read(leaf):
            code.append(f'printf(" %lld", (long long){leaf.path});')
            value = int(leaf.get())
            shown.append(str(value - (1 << 64) if value >= 1 << 63 else value))
    code.append('printf("\\n"); }')
    return Case(struct, declaration, "\n".join(code), " ".join(shown))


def program(cases: list[Case]) -> str:
    headers = {"stdio.h", "string.h", "stddef.h"}
    blocks: dict[str, None] = {}
    for each in cases:
        headers.update(each.declaration.headers)
        blocks.update(dict.fromkeys(re.split(r"\n\n", each.declaration.types.rstrip("\n"))))
    includes = [f"#include <{header}>" for header in sorted(headers)]
    body = [f"static void f{i}(void) {each.code}" for i, each in enumerate(cases)]
    calls = "".join(f"f{i}();" for i in range(len(cases)))
    return "\n".join([*includes, *blocks, *body, f"int main(void) {{ {calls} return 0; }}\n"])


def check(made: list[StructType], compiler: str, directory: Path) -> None:
    """Compare what Python and the compiler make of structs."""
    cases = [case(struct, seed) for seed, struct in enumerate(made)]
    source, binary = directory / "made.c", directory / "made"
    source.write_text(program(cases))
    command = [compiler, "-std=gnu17", "-O0", "-w", "-o", str(binary), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    printed = subprocess.run([str(binary)], check=True, capture_output=True, text=True).stdout
    wrong = [
        (each.struct.__plan__, each.declaration.text, each.expected, line)
        for each, line in zip(cases, printed.splitlines(), strict=True)
        if line != each.expected
    ]
    assert not wrong, "\n".join(["", *map(str, wrong[0][1:]), repr(wrong[0][0].types)])
