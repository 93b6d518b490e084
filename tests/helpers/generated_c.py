"""Structs in C made up by hypothesis, and a comparison of `Struct.from_c` with gcc for them.

`c_cases` makes up texts. `differences` compiles a batch of them as one program. The program writes
a value into every member and prints the bytes. It prints the members of bytes that Python wrote.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from ipckit import Struct
from ipckit.errors import InvalidArgument
from ipckit.structs import StructType

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The name of a type, what it is, and its bits.
NUMBERS = [
    ("signed char", "i", 8), ("unsigned char", "u", 8), ("short", "i", 16),
    ("unsigned short", "u", 16), ("int", "i", 32), ("unsigned int", "u", 32), ("long", "i", 64),
    ("unsigned long", "u", 64), ("long long", "i", 64), ("unsigned long long", "u", 64),
    ("int8_t", "i", 8), ("uint8_t", "u", 8), ("int16_t", "i", 16), ("uint16_t", "u", 16),
    ("int32_t", "i", 32), ("uint32_t", "u", 32), ("int64_t", "i", 64), ("uint64_t", "u", 64),
    ("size_t", "u", 64), ("pid_t", "i", 32), ("mode_t", "u", 32), ("off_t", "i", 64),
    ("time_t", "i", 64), ("bool", "?", 1), ("_Bool", "?", 1),
]  # fmt: skip
OTHERS = [("float", "f", 32), ("double", "f", 64), ("char", "c", 8)]
OPAQUE = [("void *", "p", 64), ("__int128", "p", 128), ("long double", "", 128)]
# Those whose name in C is not the same type on every 64-bit Linux are not here.
ENUMS = [
    [0], [0, 1, 2], [5, 5, 9], [-1, 3], [-128, 127], [-129, 1], [255, 256], [0x7FFFFFFF, 0],
    [0x80000000], [0xFFFFFFFF, 1], [-1, 0x7FFFFFFF], [-1, 0x80000000], [-(2**31), 7],
    [-(2**31) - 1], [0x100000000], [2**63 - 1, -(2**63)], [2**64 - 1, 1], [2**63],
]  # fmt: skip
ALIGNMENTS = [1, 2, 4, 8, 16, 32, 64]
MOST_LEAVES = 60  # values of one struct; arrays of arrays of structs have many more


@dataclass
class Leaf:
    """A member that holds one value: the steps to it, what it is, and its bits.

    A step is the name of a member or an index. Texts and bytes have 8 bits a character.
    """

    steps: list[str | int]
    kind: str
    bits: int
    names: dict[int, str] = field(default_factory=dict)

    @property
    def c_path(self) -> str:
        return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.steps)

    def named(self, prefix: str) -> Leaf:
        """Return the same member with the names of the text that has a prefix."""
        names = {value: name.replace("@", prefix) for value, name in self.names.items()}
        return Leaf(self.steps, self.kind, self.bits, names)

    def value(self, seed: int) -> Any:
        """Return a value that differs from that of the next seed, if there are so many."""
        if self.names:
            return sorted(self.names)[seed % len(self.names)]
        if self.kind == "?":
            return bool(seed % 2)
        if self.kind == "f":
            return seed * 1.5 - 7
        if self.kind == "c":
            return chr(0x21 + seed % 90)
        if self.kind in "tr":
            text = "".join(chr(0x21 + (seed + i) % 90) for i in range(self.bits // 8))
            return text if self.kind == "t" else text.encode()
        mixed = (seed + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128 >> (128 - self.bits)
        return mixed - 2**self.bits if self.kind == "i" and mixed >> (self.bits - 1) else mixed


@dataclass
class Case:
    """A C text, in which ``@`` stands for a prefix of all names, and what is in its struct."""

    text: str
    kind: str = "struct"
    leaves: list[Leaf] = field(default_factory=list)
    places: list[str] = field(default_factory=list)  # of the members that offsetof takes

    def source(self, prefix: str) -> str:
        return self.text.replace("@", prefix)


@dataclass
class _Type:
    """A type: its name or its declaration, what it is, and what is in it."""

    spelling: str
    kind: str
    bits: int
    names: dict[int, str] = field(default_factory=dict)
    leaves: list[Leaf] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    array: bool = True  # C allows arrays of it
    base: str = ""  # the name of the type behind a typedef


class _Maker:
    """Makes up one text."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self._draw = draw
        self._before: list[str] = []
        self._count = 0

    def _name(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def _pick(self, choices: Any) -> Any:
        return self._draw(st.sampled_from(choices))

    def _chance(self, percent: int) -> bool:
        return bool(self._draw(st.integers(0, 99)) >= 100 - percent)

    def case(self) -> Case:
        kind = "union" if self._chance(10) else "struct"
        made = self._record("@", kind, 3)
        return Case("\n".join([*self._before, f"{made.spelling};"]), kind, made.leaves, made.places)

    def _record(self, tag: str, kind: str, depth: int) -> _Type:
        opened, closed = "", ""
        if self._chance(20):
            opened = self._attributes()
        elif self._chance(20):
            closed = self._attributes()
        members: list[str] = []
        leaves: list[Leaf] = []
        places: list[str] = []
        count = self._draw(st.integers(1, 6))
        for index in range(count):
            text, found = self._member(depth, last=index == count - 1 and kind == "struct")
            members.append(text)
            places += found.places
            leaves = leaves + found.leaves if kind == "struct" else (found.leaves or leaves)
        if not places:
            name = self._name("m")
            members.append(f"char {name};")
            places, leaves = [name], [*leaves, Leaf([name], "c", 8)]
            leaves = leaves if kind == "struct" else leaves[-1:]
        body = "\n".join(members)
        return _Type(
            f"{kind} {opened}{tag} {{\n{body}\n}}{closed}", "record", 0, {}, leaves, places
        )

    def _attributes(self) -> str:
        found = self._pick(["packed", "packed", "aligned", "packed, aligned"])
        found = found.replace("aligned", f"aligned({self._pick(ALIGNMENTS)})")
        return f" __attribute__(({found})) "

    def _declared_first(self, made: _Type, name: str, kind: str) -> _Type:
        """Put the declaration of a record before the struct, perhaps with a pragma around it."""
        text = f"{made.spelling};"
        if self._chance(30):
            packing = self._pick([1, 2, 4, 8, 16])
            text = f"#pragma pack(push, {packing})\n{text}\n#pragma pack(pop)"
        self._before.append(text)
        return _Type(f"{kind} {name}", "record", 0, {}, made.leaves, made.places)

    def _enum(self) -> _Type:
        values = self._pick(ENUMS)
        name = self._name("@_e")
        listed = ", ".join(f"{name}_{i} = {_literal(value)}" for i, value in enumerate(values))
        least, most = min(values), max(values)
        signed = least < 0
        needed = max(most.bit_length(), (-least - 1).bit_length() if signed else 0) + signed
        packed = self._chance(25)
        self._before.append(f"enum {'__attribute__((packed)) ' * packed}{name} {{ {listed} }};")
        bits = next(each for each in ((8, 16, 32, 64) if packed else (32, 64)) if needed <= each)
        names: dict[int, str] = {}
        for i, value in enumerate(values):
            names.setdefault(value, f"{name}_{i}")
        return _Type(f"enum {name}", "i" if signed else "u", bits, names)

    def _typedef(self) -> _Type:
        base = self._pick([*NUMBERS, *OTHERS])
        name = self._name("@_t")
        alignment = self._pick(ALIGNMENTS)
        attribute = self._pick(["", f" __attribute__((aligned({alignment})))"])
        self._before.append(f"typedef {base[0]} {name}{attribute};")
        array = not attribute or 8 * alignment <= max(base[2], 8)
        return _Type(name, *base[1:], array=array, base=base[0])

    def _integer(self) -> _Type:
        """Make up the type of a bit-field."""
        if self._chance(15):
            return self._enum()
        if self._chance(10):
            made = self._typedef()
            if made.kind in "iu?" and "aligned" not in self._before[-1]:
                return made
        return _Type(*self._pick(NUMBERS))

    def _any_type(self, depth: int) -> _Type:
        if depth and self._chance(25):
            kind = self._pick(["struct", "struct", "union"])
            name = self._name("@_r")
            made = self._record(name, kind, depth - 1)
            return made if self._chance(40) else self._declared_first(made, name, kind)
        if self._chance(12):
            return self._enum()
        if self._chance(12):
            return self._typedef()
        if self._chance(8):
            return _Type(*self._pick(OPAQUE))
        return _Type(*self._pick([*NUMBERS, *OTHERS, *OTHERS]))

    def _member(self, depth: int, *, last: bool) -> tuple[str, _Type]:
        if self._chance(25):
            return self._bit_field()
        if depth and self._chance(10):
            kind = self._pick(["struct", "union"])
            made = self._record("", kind, depth - 1)
            return f"{made.spelling};", made
        found = self._any_type(depth)
        name = self._name("m")
        if last and depth == 3 and found.kind != "record" and found.array and self._chance(15):
            size = self._pick(["", "0"])
            member = f"char first_{name}; {found.spelling} {name}[{size}];"
            leaves = [Leaf([f"first_{name}"], "c", 8)]
            return member, _Type("", "", 0, {}, leaves, [f"first_{name}", name])
        sizes = self._draw(st.lists(st.integers(1, 3), max_size=3)) if self._chance(25) else []
        if not found.array:
            sizes = []
        leaves = _in_array(found, [name], sizes)[:MOST_LEAVES]
        places = [name, *(f"{name}{'[0]' * len(sizes)}.{each}" for each in found.places)]
        before, after = self._alignment(found)
        dimensions = "".join(f"[{size}]" for size in sizes)
        text = f"{before}{found.spelling} {name}{dimensions}{after};"
        return text, _Type("", "", 0, {}, leaves, places)

    def _alignment(self, found: _Type) -> tuple[str, str]:
        """Return what stands before and after a member."""
        if not self._chance(15):
            return "", ""
        if self._chance(30):
            return f"_Alignas({self._pick([16, 32, 64])}) " * (
                found.array and found.kind != "record"
            ), ""
        return "", self._attributes().rstrip()

    def _bit_field(self) -> tuple[str, _Type]:
        found = self._integer()
        if self._chance(20):
            width = self._draw(st.integers(0, found.bits))
            return f"{found.spelling} : {width};", _Type("", "", 0)
        name = self._name("m")
        most = found.bits
        least = 1
        if found.names:
            least = max(v.bit_length() if v >= 0 else (-v - 1).bit_length() for v in found.names)
            least = max(least + (found.kind == "i"), 1)
        width = self._draw(st.integers(least, most))
        # from_c refuses aligned bit-fields, because gcc and clang differ.
        after = " __attribute__((packed))" if self._chance(8) else ""
        leaf = Leaf([name], found.kind, width, found.names)
        return f"{found.spelling} {name} : {width}{after};", _Type("", "", 0, {}, [leaf])


def _literal(value: int) -> str:
    if value < 0:
        return f"({value + 1}LL - 1)" if value < -(2**31) else f"({value})"
    return f"{value:#x}ULL" if value >= 2**63 else f"{value:#x}"


def _in_array(found: _Type, steps: list[Any], sizes: list[int]) -> list[Leaf]:
    """Return the leaves of a member that is an array, or of no dimension."""
    characters = {"char": "t", "unsigned char": "r"}.get(found.base or found.spelling)
    if len(sizes) == 1 and characters:
        return [Leaf(steps, characters, 8 * sizes[0])]
    if sizes:
        items = (_in_array(found, [*steps, i], sizes[1:]) for i in range(sizes[0]))
        return [leaf for item in items for leaf in item]
    if found.kind == "record":
        return [Leaf(steps + each.steps, each.kind, each.bits, each.names) for each in found.leaves]
    return [Leaf(steps, found.kind, found.bits, found.names)] if found.kind else []


@st.composite
def c_cases(draw: st.DrawFn) -> Case:
    """Make up a C text that declares a struct or a union."""
    return _Maker(draw).case()


# -- the comparison --------------------------------------------------------------------------------


def _holder(record: Any, steps: list[Any]) -> Any:
    for step in steps[:-1]:
        record = record[step] if isinstance(step, int) else getattr(record, step)
    return record


def _get(record: Any, steps: list[Any]) -> Any:
    holder = _holder(record, steps)
    return holder[steps[-1]] if isinstance(steps[-1], int) else getattr(holder, steps[-1])


def _set(record: Any, leaf: Leaf, value: Any) -> None:
    if leaf.kind == "p":
        value = value.to_bytes(leaf.bits // 8, "little")
    holder = _holder(record, leaf.steps)
    if isinstance(leaf.steps[-1], int):
        holder[leaf.steps[-1]] = value
    else:
        setattr(holder, leaf.steps[-1], value)


def _store(leaf: Leaf, value: Any) -> str:
    """Write a value to the member in C."""
    path = f"v{leaf.c_path}"
    if leaf.kind in "tr":
        data = value.encode() if isinstance(value, str) else value
        return f"memcpy(&{path}, (unsigned char[]){{{', '.join(map(str, data))}}}, {len(data)});"
    if leaf.kind == "c":
        return f"{path} = {ord(value)};"
    if leaf.kind == "p":
        number = f"((unsigned __int128){value >> 64}u << 64 | {value % 2**64}u)"
        return f"{path} = (__typeof__({path})){number if leaf.bits > 64 else f'{value}u'};"
    return f"{path} = {leaf.names[value]};" if leaf.names else f"{path} = {_number(value)};"


def _number(value: Any) -> str:
    if isinstance(value, (bool, float)):
        return str(value).lower()
    return f"({value + 1}LL - 1)" if value < 0 else f"{value}ULL"


def _load(leaf: Leaf) -> str:
    """Print the member in C, as `_printed` has it."""
    path = f"v{leaf.c_path}"
    if leaf.kind in "tr":
        return f"hex(&{path}, {leaf.bits // 8});"
    if leaf.kind == "p":
        return (
            f"{{ unsigned __int128 w = (unsigned __int128)(__UINTPTR_TYPE__){path};"
            f" hex(&w, {leaf.bits // 8}); }}"
            if leaf.bits <= 64
            else f"{{ __typeof__({path}) w = {path}; hex(&w, 16); }}"
        )
    if leaf.kind == "f":
        return f'printf(" %.17g", (double){path});'
    return f'printf(" %ll{"d" if leaf.kind in "ic" else "u"}", (long long){path});'


def _printed(leaf: Leaf, value: Any) -> str:
    if leaf.kind in "tr":
        return (value.encode() if isinstance(value, str) else value).hex()
    if leaf.kind == "p":
        return value.to_bytes(leaf.bits // 8, "little").hex()
    if leaf.kind == "c":
        return str(ord(value)) if value else "0"
    return f"{value:.17g}" if leaf.kind == "f" else str(int(value))


def _read(leaf: Leaf, record: Any) -> str:
    """Read the member in Python, and check the name of an enum's value."""
    value = _get(record, leaf.steps)
    if leaf.kind == "p":
        return str(value.hex())
    if leaf.names and isinstance(leaf.steps[-1], str):
        names = leaf.names[int(value)]
        return _printed(leaf, value) if value.name == names else f"{value!r} is not {names}"
    return _printed(leaf, value)


_HEAD = """
#include <stdio.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <stdbool.h>
#include <sys/types.h>
static void hex(void *from, size_t size) {
    printf(" ");
    for (size_t i = 0; i < size; i++) printf("%02x", ((unsigned char *)from)[i]);
}
"""


def _first(places: list[str]) -> list[str]:
    return places[:MOST_LEAVES]


@dataclass
class _Pair:
    """A case, and the class that `from_c` made of it."""

    case: Case
    prefix: str
    struct: Any
    leaves: list[Leaf]

    def _filled(self, seed: int) -> Any:
        record: Any = StructType.zeroed(self.struct)
        for index, leaf in enumerate(self.leaves):
            _set(record, leaf, leaf.value(seed + index))
        return record

    def program(self) -> str:
        name = f"{self.case.kind} {self.prefix}"
        written = bytes(self._filled(7))
        facts = [f"sizeof({name})", f"_Alignof({name})"]
        facts += [f"offsetof({name}, {each})" for each in _first(self.case.places)]
        size = len(written)
        return "\n".join(
            [
                f"static void run_{self.prefix}(void) {{",
                f"static union {{ {name} value; unsigned char room[{size}]; }} u;",
                f"static const unsigned char given[] = {{ {', '.join(map(str, written))} }};",
                "#define v u.value",
                *(f'printf(" %zu", (size_t){fact});' for fact in facts),
                *(_store(leaf, leaf.value(index)) for index, leaf in enumerate(self.leaves)),
                f"hex(&u, {size});",
                f"memcpy(&u, given, {size});",
                *map(_load, self.leaves),
                'printf("\\n");',
                "#undef v",
                "}",
            ]
        )

    def difference(self, line: str) -> str:
        """Return how the program's line differs from ipckit; "" if it does not."""
        said = line.split()
        places = _first(self.case.places)
        found = [str(self.struct.size), str(self.struct.alignment)]
        found += [str(_offset(self.struct, each)) for each in places]
        names = ["size", "alignment", *places, "bytes"]
        filled = self._filled(0)
        found.append(bytes(filled).hex())
        found += [_printed(leaf, leaf.value(7 + i)) for i, leaf in enumerate(self.leaves)]
        names += [f"{leaf.c_path} as Python wrote it" for leaf in self.leaves]
        record = self.struct.from_bytes(bytes.fromhex(said[2 + len(places)]))
        for index, leaf in enumerate(self.leaves):
            found.append(_read(leaf, record))
            said.append(_printed(leaf, leaf.value(index)))
            names.append(f"{leaf.c_path} as C wrote it")
        return "\n".join(
            f"{name}: {ours}, but {theirs} in C"
            for name, ours, theirs in zip(names, found, said, strict=True)
            if ours != theirs
        )


def _offset(struct: Any, path: str) -> int:
    """Return the offset of a member, as the metadata of the classes say."""
    total = 0
    for step in path.split("."):
        name = step.partition("[")[0]
        entry = next(each for each in struct.__plan__.entries if each.name == name)
        total += entry.bit // 8
        ctype = entry.ctype
        while hasattr(ctype, "item"):
            ctype = ctype.item
        struct = getattr(ctype, "struct", None)
    return total


def differences(cases: list[Case], directory: Path, compiler: str = "gcc") -> list[str]:
    """Compare the classes of some texts with a compiler.

    Returns:
        A report for each text that differs or is refused.
    """
    pairs: list[_Pair] = []
    found: list[str] = []
    for number, case in enumerate(cases):
        prefix = f"s{number}"
        text = case.source(prefix)
        try:
            struct = Struct.from_c(text, f"{case.kind} {prefix}", opaque=True)
        except InvalidArgument as error:
            found.append(f"{text}\n{error}")
            continue
        leaves = [each.named(prefix) for each in case.leaves[:MOST_LEAVES]]
        pairs.append(_Pair(case, prefix, struct, leaves))
    texts = [pair.case.source(pair.prefix) for pair in pairs]
    calls = [f"run_{pair.prefix}();" for pair in pairs]
    programs = [pair.program() for pair in pairs]
    text = "\n".join([_HEAD, *texts, *programs, "int main(void) {", *calls, "return 0; }"])
    source, binary = directory / "made.c", directory / "made"
    source.write_text(text)
    command = [compiler, "-std=gnu17", "-O0", "-w", "-o", str(binary), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return [*found, f"{text}\n{done.stderr}"]
    lines = subprocess.run([binary], check=True, capture_output=True, text=True).stdout.splitlines()
    for pair, line in zip(pairs, lines, strict=True):
        if difference := pair.difference(line):
            found.append(f"{pair.case.source(pair.prefix)}\n{difference}")
    return found
