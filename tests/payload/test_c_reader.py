# ruff: noqa: E501 - the texts are one a line
"""`c_reader.read` describes structs as gcc lays them out: each text is compiled and run with gcc.

The program of a text fills each member, one after the other, with ones, and prints the bytes. They
must be those that the description says.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ipckit._payload import c_reader
from ipckit._payload.c_declarations import (
    ArrayType,
    EnumType,
    Location,
    OpaqueType,
    RecordType,
    ScalarType,
)
from ipckit._payload.c_problems import invalid
from ipckit._payload.c_source import Options
from ipckit.errors import InvalidSource
from ipckit.testing import Child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# One text a line; " ~ " stands for a line's end. The struct is always s.
TEXTS = r"""
#define PK __attribute__((packed)) ~ struct PK s { char a; int b; };
#define PK __attribute__((packed)) ~ struct s { char a; int b; } PK;
struct s { char a; short b; char c; double d; char e; long f; };
#pragma pack(1) ~ struct s { char a; int b; };
#pragma pack(push, 2) ~ struct s { char a; int b; long c; double d; };
#pragma pack(4) ~ struct s { char a; long b; short c; double d; };
#pragma pack(1) ~ struct s { char a; int b : 7; unsigned c : 12; long d : 40; char e; };
#pragma pack(2) ~ struct s { char a; int b : 7; unsigned c : 12; long d : 40; char e; };
#pragma pack(4) ~ struct s { char a; int b : 30; unsigned c : 12; long d : 40; char e; };
#pragma pack(1) ~ struct s { char a; int b : 7; int : 0; unsigned c : 12; long : 3; short d : 9; };
_Pragma("pack(1)") struct s { char a; int b; };
struct s { int a; _Alignas(64) int b; };
struct s { _Alignas(double) char b; char c; };
struct s { char a; __attribute__((aligned(16))) int b; char c; };
struct __attribute__((aligned(16))) s { char a; int b; };
struct s { char a; int b; } __attribute__((packed, aligned(2)));
struct s { char a; int b __attribute__((packed)); long c; };
struct s { char a; int b __attribute__((packed, aligned(2))); long c; };
typedef int wide __attribute__((aligned(16))); struct s { char a; wide b; char c; };
typedef int tight __attribute__((aligned(1))); struct s { char a; tight b; short c; };
struct in { char c; } __attribute__((aligned(8))); struct s { char a; struct in b; char d; };
struct s { int a; struct { char b; short c; }; union { int d; double e; }; char f; };
struct s { union { struct { char a; union { short b; long c; }; }; int d[3]; }; char e; };
struct s { char a : 3; char b : 6; signed char c : 2; unsigned char d : 8; };
struct s { short a : 3; unsigned short b : 14; short c : 1; };
struct s { int a : 3; int b : 5; unsigned c : 31; int d : 1; char e; };
struct s { long a : 3; unsigned long b : 63; long long c : 50; unsigned long long d : 20; };
struct s { _Bool a : 1; _Bool b : 1; char c; _Bool d : 1; };
struct s { char x; int a : 9; char y; long b : 33; short z; };
enum e { P, Q, R }; struct s { enum e a : 2; enum e b : 3; char c; };
enum e { P = -1, Q = 1 }; struct s { char c; enum e a : 2; int b : 30; };
struct s { int a : 3; int : 0; int b : 5; char : 0; char c : 2; long : 0; char d; };
struct s { char a; int : 5; char b : 4; int : 27; short c; };
struct __attribute__((packed)) s { char a; int b : 7; unsigned c : 12; long d : 40; _Bool e : 1; short f; };
struct s { char a; int b : 7 __attribute__((packed)); unsigned c : 31 __attribute__((packed)); };
union s { int a : 5; long b; char c[11]; };
union s { char a; struct { short b; char c; } d[3]; };
union __attribute__((packed)) s { char a; int b; };
enum e { A = -1, B = 5 }; struct s { char c; enum e x; };
enum e { A = 0x80000000 }; struct s { char c; enum e x; };
enum e { A = -1, B = 0x80000000 }; struct s { char c; enum e x; };
enum e { A = 0xffffffffffffffff }; struct s { char c; enum e x; };
enum e { A = 1, Z = 0x100000000 }; struct s { enum e x; int y; };
enum __attribute__((packed)) e { A, B = 200 }; struct s { char c; enum e x; short d; };
enum e { A = -1, B = 200 } __attribute__((packed)); struct s { char c; enum e x; };
typedef enum { false, true } bool; struct s { bool a; char c; };
typedef int bool; struct s { bool a; char c; };
typedef unsigned short uint32_t; struct s { char c; uint32_t a; uint32_t b[3]; };
typedef unsigned char size_t; struct s { char c; size_t a; int x[sizeof(size_t)]; };
typedef char name_t[13]; struct s { char a; name_t n; short c; name_t m[2]; };
typedef const int ci; struct s { char x; ci a; const volatile short b; };
struct s { char a; _Atomic int b; _Atomic(short) c; _Atomic _Bool d; };
struct s { __typeof__(int) a; __extension__ long long b; };
struct s { int a __attribute__((mode(DI))); char b; };
struct p { char a; double d; }; struct s { char x; struct p y[2][3]; short z; };
struct s { int a; struct q { char c; short d; } x, y[2]; struct q z; };
struct s { char a; int n[0]; char b; };
struct s { short n; int x[]; };
struct s { short n; struct { char a; long b; } x[0]; };
struct e {}; struct s { char a; struct e b; int c; };
#include <stdint.h> ~ struct s { uint8_t a; uint64_t b; int_least16_t c; uintptr_t d; };
#include <stdbool.h> ~ #include <stddef.h> ~ struct s { bool a; size_t b; ptrdiff_t c; wchar_t d; };
#include <sys/types.h> ~ struct s { char a; pid_t b; uid_t c; off_t d; time_t e; key_t f; dev_t g; };
#include <sys/stat.h> ~ struct s { char a; struct stat b; };
#include <netinet/in.h> ~ struct s { char a; struct sockaddr_in b; struct in6_addr c; };
#include <net/ethernet.h> ~ struct s { char a; struct ether_header b; };
#include <linux/if_ether.h> ~ struct s { char a; struct ethhdr b; __be32 c; };
#include <netinet/ip.h> ~ #include <netinet/tcp.h> ~ struct s { char a; struct iphdr b; struct tcphdr c; };
#define F(x) x ~ struct s { char a[F(3)]; };
#if defined(__linux__) && __SIZEOF_LONG__ == 8 ~ struct s { char a; int b; }; ~ #endif
#if 0 ~ struct s { int a; }; ~ #else ~ struct s { char a; int b; }; ~ #endif
struct s { char a[(int)3.7], b['\x05']; };
struct s { char a; int b; /* x */ }; const char *text = "/* \" //";
"""


def texts(block: str) -> list[str]:
    return [line.replace(" ~ ", "\n") for line in block.strip().splitlines()]


def read(text: str, name: str | None = "s", **options: Any) -> RecordType:
    found = c_reader.read(text, name, options=Options(**options))
    assert not found.problems
    return found.records[0]


def problems(text: str, name: str | None = None, **options: Any) -> str:
    with pytest.raises(InvalidSource) as caught:
        raise invalid([*c_reader.read(text, name, options=Options(**options)).problems])
    assert caught.value.problems
    return str(caught.value.strerror)


def leaves(kind: object, path: str, bit: int) -> Iterator[tuple[str, object, int, int | None]]:
    """The members that are no structs, with their paths in C, first bits and widths."""
    if isinstance(kind, RecordType):
        for each in kind.members:
            inner = path if each.anonymous else f"{path}.{each.name}"
            if each.width is None:
                yield from leaves(each.type, inner, bit + each.bit_offset)
            else:
                yield inner, each.type, bit + each.bit_offset, each.width
    elif isinstance(kind, ArrayType):
        assert isinstance(size_of(kind.item), int)
        for index in range(kind.count or 0):
            yield from leaves(kind.item, f"{path}[{index}]", bit + 8 * index * size_of(kind.item))
    else:
        yield path, kind, bit, None


def size_of(kind: Any) -> int:
    if isinstance(kind, ArrayType):
        return size_of(kind.item) * (kind.count or 0)
    return int(kind.integer.size if isinstance(kind, EnumType) else kind.size)


def enums(kind: object) -> Iterator[EnumType]:
    if isinstance(kind, EnumType):
        yield kind
    elif isinstance(kind, ArrayType):
        yield from enums(kind.item)
    elif isinstance(kind, RecordType):
        for each in kind.members:
            yield from enums(each.type)


def facts(record: RecordType, c_name: str) -> list[tuple[str, int]]:
    """Constant expressions in C, with their values by the description."""
    found = [(f"sizeof({c_name})", record.size), (f"_Alignof({c_name})", record.alignment)]
    for path, kind, bit, width in leaves(record, "", 0):
        if width is not None:
            continue
        assert bit % 8 == 0
        found.append((f"__builtin_offsetof({c_name}, {path[1:]})", bit // 8))
        found.append((f"sizeof((({c_name} *)0)->{path[1:]})", size_of(kind)))
        scalar = kind.integer if isinstance(kind, EnumType) else kind
        if isinstance(scalar, ScalarType) and scalar.kind in ("int", "uint"):
            is_unsigned = f"(__typeof__((({c_name} *)0)->{path[1:]}))-1 > 0"
            found.append((is_unsigned, int(scalar.kind == "uint")))
    found += [(name, value) for enum in enums(record) for name, value in enum.members]
    return found


def asserted(record: RecordType, c_name: str) -> list[str]:
    return [
        f'_Static_assert(({fact}) == {f"{value}u" if value >= 2**63 else value}, "{number}");'
        for number, (fact, value) in enumerate(facts(record, c_name))
    ]


def filled(record: RecordType) -> list[tuple[str, str, int]]:
    """Members to fill: the path in C, the value, and all bits of the record that are ones then."""
    found: list[tuple[str, str, int]] = []
    for path, kind, bit, width in leaves(record, "", 0):
        is_bool = isinstance(kind, ScalarType) and kind.kind == "bool"
        if isinstance(kind, OpaqueType) or (isinstance(kind, ScalarType) and kind.kind == "float"):
            continue
        bits = 1 if is_bool else width or 8 * size_of(kind)
        found.append((path, "1" if is_bool else "-1", ((1 << bits) - 1) << bit))
    return found


def program(text: str, record: RecordType, c_name: str) -> str:
    lines = [text, *(f"#undef {name}" for name in ("int", "bool", "true", "false"))]
    lines += ["int printf(const char *, ...);", *asserted(record, c_name)]
    lines.append("int main(void) {")
    lines.append(f"    static union {{ {c_name} v; unsigned char bytes[{record.size}]; }} u;")
    for path, value, _ in filled(record):
        lines.append(f"    __builtin_memset(&u, 0, sizeof u); u.v{path} = {value};")
        lines.append('    for (unsigned i = 0; i < sizeof u; i++) printf("%02x", u.bytes[i]);')
        lines.append('    printf("\\n");')
    lines.append("    return 0;\n}")
    return "\n".join(lines)


@pytest.mark.parametrize("text", texts(TEXTS))
def test_a_description_is_what_gcc_does(text: str, tmp_path: Path) -> None:
    record = read(text)
    c_name = f"{record.kind} s"
    source = tmp_path / "text.c"
    # A const member can't be filled.
    source.write_text("#define const\n" * ("const" in text) + program(text, record, c_name))
    command = ["gcc", "-std=gnu17", "-w", "-o", str(tmp_path / "run"), str(source)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    ran = subprocess.run([str(tmp_path / "run")], check=True, capture_output=True, text=True)
    expected = [bits.to_bytes(record.size, "little").hex() for _, _, bits in filled(record)]
    assert ran.stdout.split() == expected


# -- names -----------------------------------------------------------------------------------------

NAMES = """
typedef struct stu { int a; } STU, *STU_PTR, STUS[3];
typedef STU other_t;
struct plain { int a; };
typedef struct plain plain_t;
typedef struct later later_t;
struct later { int a; };
typedef struct { int a; union { int b; struct { int c; } d; } u; enum { X } e; } outer_t;
struct has { struct inside { int a; } i; union { int b; long c; }; };
struct { long mtype; } message;
union u { int a; };
struct u_t { int a; }; typedef union u u_t;
"""


@pytest.mark.parametrize(
    ("name", "wanted", "tag"),
    [
        *(("STU", "STU", "stu"), ("stu", "STU", "stu"), ("struct stu", "STU", "stu")),
        *(("other_t", "STU", "stu"), ("plain", "plain", "plain"), ("plain_t", "plain", "plain")),
        *(("later_t", "later", "later"), ("struct  later", "later", "later")),
        *(("outer_t", "outer_t", ""), ("inside", "inside", "inside")),
        *(("union u", "u", "u"), ("u_t", "u", "u"), ("struct u_t", "u_t", "u_t")),
    ],
)
def test_a_struct_is_found_by_each_of_its_names(name: str, wanted: str, tag: str) -> None:
    found = read(NAMES, name)
    assert (found.name, found.tag) == (wanted, tag)


def test_a_struct_without_a_name_is_named_after_what_contains_it() -> None:
    outer = read(NAMES, "outer_t")
    union = outer.members[1].type
    assert isinstance(union, RecordType)
    assert (union.name, union.kind, union.tag) == ("outer_t_u", "union", "")
    inner = union.members[1].type
    assert isinstance(inner, RecordType)
    assert inner.name == "outer_t_u_d"
    assert isinstance(outer.members[2].type, EnumType)
    assert outer.members[2].type.name == "outer_t_e"
    anonymous = read(NAMES, "has").members[1]
    assert (anonymous.name, anonymous.anonymous) == ("", True)


def test_all_structs_of_a_text_come_in_its_order() -> None:
    found = c_reader.read(f"#include <sys/stat.h>\n{NAMES}", None, options=Options(), every=True)
    names = ["STU", "plain", "later", "outer_t", "has", "message", "u", "u_t"]
    assert [each.name for each in found.records] == names
    assert read(NAMES, None).name == "u_t"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("STU_PTR", "<text>:2: STU_PTR is struct stu *, and neither a struct nor a union"),
        ("STUS", "<text>:2: STUS is struct stu[3], and neither"),
        ("plian", "<text>: the text declares no struct plian; it declares plain"),
        ("union stu", "declares no union stu"),
        ("struct STU", "declares no struct STU"),
        ("struct outer_t", "declares no struct outer_t"),
        ("", "declares no struct"),
        ("struct", "declares no struct"),
    ],
)
def test_what_is_no_name_of_a_struct_is_refused(name: str, says: str) -> None:
    assert says in problems(NAMES, name)


def test_one_declaration_is_one_object() -> None:
    text = "typedef struct { int a; } p_t; typedef struct { p_t a, b[2]; } q_t; struct s { q_t a; p_t b; };"
    found = read(text)
    q = found.members[0].type
    assert isinstance(q, RecordType)
    assert isinstance(q.members[1].type, ArrayType)
    assert q.members[0].type is q.members[1].type.item is found.members[1].type


def test_a_description_can_be_pickled_and_hashed() -> None:
    found = c_reader.read(NAMES, None, options=Options(), every=True)
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - it was pickled above
    assert len({found, dataclasses.replace(found)}) == 1


# -- types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        *(("uint32_t x;", "uint32_t", "uint"), ("int8_t x;", "int8_t", "int")),
        *(("size_t x;", "size_t", "uint"), ("ssize_t x;", "ssize_t", "int")),
        *(("bool x;", "bool", "bool"), ("_Bool x;", "bool", "bool")),
        *(("char x;", "char", "char"), ("signed char x;", "signed char", "int")),
        *(("pid_t x;", "pid_t", "int"), ("__u32 x;", "unsigned int", "uint")),
        *(("const volatile long x;", "long", "int"), ("socklen_t x;", "socklen_t", "uint")),
        *(("wchar_t x;", "int", "int"), ("_Atomic uint64_t x;", "uint64_t", "uint")),
        *(("__le16 x;", "unsigned short", "uint"), ("time_t x;", "time_t", "int")),
        *(("float x;", "float", "float"), ("long double x;", "", ""), ("char *x;", "", "")),
    ],
)
def test_a_type_has_the_name_of_the_standard(text: str, name: str, kind: str) -> None:
    found = read(f"struct s {{ {text} }};").members[0].type
    if not name:
        assert isinstance(found, OpaqueType)
    else:
        assert isinstance(found, ScalarType)
        assert (found.name, found.kind) == (name, kind)


def test_a_typedef_of_the_text_is_not_taken_for_that_of_the_standard() -> None:
    text = "typedef unsigned short uint32_t; typedef uint32_t my; struct s { uint32_t a; my b; };"
    assert {each.type.name for each in read(text).members if isinstance(each.type, ScalarType)} == {
        "unsigned short"
    }


@pytest.mark.parametrize(
    ("declared", "size", "why"),
    [
        *(("char *x", 8, "a pointer is an address"), ("void (*x)(int)", 8, "a pointer")),
        *(("long double x", 16, "long double"), ("__int128 x", 16, "128 bits")),
        *(("_Float16 x", 2, "16-bit float"), ("double _Complex x", 16, "complex")),
        *(
            ("int x __attribute__((vector_size(16)))", 16, "vector"),
            ("__float128 x", 16, "128-bit"),
        ),
        *(("_Atomic struct { char a[8]; } x", 8, "_Atomic"), ("_Atomic(int *) x", 8, "_Atomic")),
    ],
)
def test_what_python_cannot_read_is_opaque(declared: str, size: int, why: str) -> None:
    (member,) = read(f"struct s {{ {declared}; }};").members
    assert isinstance(member.type, OpaqueType)
    assert member.type.size == size
    assert why in member.type.why


def test_what_is_not_needed_costs_nothing() -> None:
    text = "struct other { char *p; long double q; }; int f(void *); struct s { int a; };"
    assert read(text).size == 4


def test_an_array_without_a_size_has_no_count() -> None:
    for text in ("int x[];", "int x[0];"):
        found = read(f"struct s {{ short n; {text} }};").members[1]
        assert found.type == ArrayType(ScalarType("int", "int", 4, 4), None)
        assert found.bit_offset == 32
    middle = read("struct s { short n; int x[0]; int y; };").members[1].type
    assert isinstance(middle, ArrayType)
    assert middle.count == 0


def test_an_enum_of_c23_has_its_type() -> None:
    found = read("enum e : unsigned char { A, B = 9 }; struct s { enum e a; char b; };")
    enum = found.members[0].type
    assert enum == EnumType("e", ScalarType("unsigned char", "uint", 1, 1), (("A", 0), ("B", 9)))
    assert found.size == 2


def test_a_typedef_can_have_an_alignment_of_its_own() -> None:
    text = "struct s { int a; }; typedef struct s wide __attribute__((aligned(64)));"
    assert (read(text).alignment, read(text, "wide").alignment, read(text, "wide").size) == (
        4,
        64,
        4,
    )


# -- targets ---------------------------------------------------------------------------------------

TARGET_TEXT = "struct s { char a; double b; long c; long long d; void *e; size_t f; char g : 3; };"


def test_a_target_has_its_own_layout(tmp_path: Path) -> None:
    found = c_reader.read(TARGET_TEXT, "s", options=Options(target="i686-linux-gnu"))
    (record,) = found.records
    assert found.byte_order == "little"
    assert [each.bit_offset // 8 for each in record.members] == [0, 4, 12, 16, 24, 28, 32]
    assert record.alignment == 4
    source = tmp_path / "text.c"
    source.write_text(
        "\n".join([f"typedef unsigned size_t; {TARGET_TEXT}", *asserted(record, "struct s")])
    )
    command = ["gcc", "-m32", "-std=gnu17", "-w", "-fsyntax-only", str(source)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr


@pytest.mark.parametrize("target", ["s390x-linux-gnu", "powerpc64-linux-gnu", "mips-linux-gnu"])
def test_a_big_endian_target_says_so(target: str) -> None:
    found = c_reader.read(
        "struct s { int a : 3; int b : 5; };", "s", options=Options(target=target)
    )
    assert found.byte_order == "big"
    assert [each.bit_offset for each in found.records[0].members] == [0, 3]


@pytest.mark.parametrize(
    "target",
    [
        *("aarch64-linux-gnu", "armv7-linux-gnueabihf", "i686-linux-gnu", "powerpc64le-linux-gnu"),
        *("s390x-linux-gnu", "riscv64-linux-gnu", "x86_64-linux-gnux32", "loongarch64-linux-gnu"),
    ],
)
def test_common_headers_serve_each_target(target: str) -> None:
    text = (
        "#include <stdint.h>\n#include <stddef.h>\n#include <stdbool.h>\n#include <sys/types.h>\n"
        "#include <inttypes.h>\n#include <limits.h>\n#include <linux/types.h>\n"
        "struct s { uint64_t a; size_t b; bool c; pid_t d; __u16 e; char f[CHAR_BIT]; };"
    )
    names = [each.name for each in read(text, target=target).members]
    assert names == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize("target", ["", "foo", "a b", "-x", "foo-bar-baz"])
def test_an_unknown_target_is_refused(target: str) -> None:
    assert "target: libclang has no target" in problems("struct s { int a; };", target=target)


# -- errors ----------------------------------------------------------------------------------------


def test_all_problems_are_named_at_once() -> None:
    said = problems("struct s {\n  foo_t a;\n  int b;\n  bar_t c;\n  int d d;\n};\nint x = ;")
    assert [line.split(": ", 1)[0] for line in said.splitlines()] == [
        f"<text>:{line}" for line in (2, 4, 5, 7)
    ]
    with pytest.raises(InvalidSource) as caught:
        c_reader.read("a_t a;\nb_t b;", None, options=Options(), filename="x\n.h")
    lines = [
        f"x\\n.h:{line}: unknown type name '{name}'; declare it, or include the header that does"
        for line, name in ((1, "a_t"), (2, "b_t"))
    ]
    assert str(caught.value).splitlines() == lines
    assert str(pickle.loads(pickle.dumps(caught.value))).splitlines() == lines  # noqa: S301
    many = "".join(f"t{number} x{number};\n" for number in range(50))
    assert problems(many).splitlines()[-1] == "and 30 more"
    assert len(problems(many).splitlines()) == 21


@pytest.mark.parametrize(
    "word", ["PACKED", "__packed", "__attribute_packed__", "ALIGNED", "PACK_1"]
)
@pytest.mark.parametrize(
    "text",
    [
        "struct s { char a; int b; } {};",
        "typedef struct s { char a; int b; } s; struct { char a; int b; } {};",
        "struct s { struct { char a; int b; } {}; };",
        "struct {} s { char a; int b; };",
        "struct t { char a; int b; } {}; struct s { struct t a; };",
        "struct s { enum e { A } {}; };",
    ],
)
def test_a_macro_that_is_not_defined_is_no_variable(word: str, text: str) -> None:
    said = problems(text.replace("{};", f"{word};").replace("{} s", f"{word} s"))
    assert f"<text>:1: {word} looks like a macro that is not defined here" in said
    assert f'defines={{"{word}": ' in said


def test_a_variable_beside_a_struct_is_no_macro() -> None:
    for name in ("packet", "PACKET", "s", "the_struct"):
        assert read(f"struct s {{ char a; int b; }} {name};").size == 8
    assert read("struct s { struct { int a; } packed; struct { int b; } __data; };").size == 8
    assert read("struct s { char a; int b; }; extern struct s __packed;").size == 8


@pytest.mark.parametrize(
    "text",
    [
        'struct __attribute__((scalar_storage_order("big-endian"))) s { int a; };',
        "#pragma scalar_storage_order big-endian\nstruct s { int a; };",
    ],
)
def test_a_byte_order_that_clang_does_not_know_is_refused(text: str) -> None:
    assert "<text>:1: scalar_storage_order changes the byte order" in problems(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "<text>: the text declares no struct with members"),
        ("int x;", "<text>: the text declares no struct with members"),
        ("struct s {};", "<text>: the text declares no struct with members"),
        ("#error no\nstruct s { int a; };", "<text>:1: no"),
        ("struct s { int a; /* x", "<text>:1: unterminated /* comment"),
        ("enum e; struct s { enum e x; };", "incomplete"),
        (
            'struct s { int a; _Static_assert(sizeof(int) == 2, "x"); };',
            "<text>:1: static assertion",
        ),
        ("enum e { A = -1, B = 0xffffffffffffffff }; struct s { enum e x; };", "largest integer"),
        ("\nstruct s { char \0a; };", "<text>:2: the text has a NUL"),
        ("\nstruct s { char \udc80a; };", "<text>:2: the text has a character"),
        ("struct s { int a[-1]; };", "negative size"),
        ("struct s { int a; int a; };", "duplicate member"),
        ("struct s { struct s a; };", "incomplete"),
        ("#define A\n#if A(\nstruct s { int a; };", "<text>:2: "),
        ("}}}}}", "<text>:1: "),
        ('#include "/tmp"\nstruct s { int a; };', "<text>:1: /tmp is not a regular file"),
        ('#include "/dev/zero"\nstruct s { int a; };', "<text>:1: /dev/zero is not a regular file"),
    ],
)
def test_invalid_text_is_refused(text: str, says: str) -> None:
    assert says in problems(text)


def test_a_requested_struct_needs_members() -> None:
    assert problems("struct s {};", "s") == "<text>:1: struct s has no members"
    assert problems("\nstruct s;", "s") == "<text>:2: struct s is declared without its members"


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h")
    said = problems("#include <pipe.h>\nstruct s { int a; };", include_dirs=(str(tmp_path),))
    assert said == "<text>:1: pipe.h is not a regular file"


HOSTILE = {
    "braces": "{" * 100_000,
    "structs": "struct s { " * 10_000,
    "nested": "struct s {" + "struct {" * 200 + "int a;" + "} m;" * 200 + "};",
    "unions": "struct s {" + "union {" * 200 + "int a;" + "};" * 200 + "};",
    "parentheses": f"struct s {{ char a[{'(' * 10_000}1{')' * 10_000}]; }};",
    "brackets": f"struct s {{ char a{'[1]' * 2_000}; }};",
    "pointers": f"struct s {{ char {'*' * 900}a; }};",
    "casts": f"enum e {{ A = {'(int)' * 2_000}1 }}; struct s {{ enum e a; }};",
    "signs": f"enum e {{ A = {'- ' * 5_000}1 }}; struct s {{ enum e a; }};",
    "sums": f"enum e {{ A = {'1 + ' * 100_000}1 }}; struct s {{ enum e a; }};",
    "members": "struct s {" + "".join(f"char a{n};" for n in range(20_000)) + "};",
    "includes itself": '#include "text.h"\nstruct s { int a; };',
    "lines": "\n" * 1_000_000 + "struct s { int a; }; ?",
    "comment": "/*" + "x, " * 3_000_000 + "*/ struct s { ? };",
    "line": "#define X " + "x, " * 1_000_000 + "\nstruct s { ? };",
    "typedefs": "typedef int t0;"
    + "".join(f"typedef t{n} t{n + 1};" for n in range(5000))
    + "struct s { t5000 a; foo b; };",
}

RUN_HOSTILE = """
from ipckit.errors import InvalidSource
from ipckit.structs import Struct
try:
    Struct.from_c(args[0], filename=args[1], opaque=True)
    result = "fine"
except InvalidSource as error:
    result = "refused"
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_an_error(name: str, tmp_path: Path) -> None:
    file = tmp_path / "text.h"
    file.write_text(HOSTILE[name])
    with Child(RUN_HOSTILE, HOSTILE[name], str(file)) as child:
        assert child.result == ("fine" if name == "pointers" else "refused")


def test_a_header_of_many_macros_is_no_deep_expression() -> None:
    lines = "".join(f"#define FLAG_{n} (1 << {n}) /* one of them */\n" for n in range(2000))
    assert read(f"{lines}struct s {{ int a; }};").size == 4


def test_macros_that_double_each_other_come_to_an_end() -> None:
    lines = "\n".join(f"#define A{n} A{n + 1} A{n + 1}" for n in range(40))
    assert "expand to too much text" in problems(f"{lines}\nstruct s {{ int a[A0]; }};")
    chain = "\n".join(f"#define A{n} A{n + 1}" for n in range(5000))
    assert read(f"{chain}\n#define A5000 3\nstruct s {{ char a[A0]; }};").size == 3


# -- gcc -E ----------------------------------------------------------------------------------------


def preprocessed(path: Path) -> str:
    done = subprocess.run(["gcc", "-E", str(path)], check=True, capture_output=True, text=True)
    return done.stdout


def test_the_output_of_gcc_is_read_like_the_text(tmp_path: Path) -> None:
    (tmp_path / "own.h").write_text("struct own { int a; };\n")
    main = tmp_path / "main.c"
    headers = ("stdint.h", "stdio.h", "stdlib.h", "string.h", "math.h", "unistd.h", "sys/stat.h")
    includes = "".join(f"#include <{name}>\n" for name in headers)
    main.write_text(f'#include "own.h"\nstruct s {{\n  unsigned a;\n}};\n{includes}')
    text = preprocessed(main)
    found = c_reader.read(text, None, options=Options(), every=True)
    assert [each.name for each in found.records] == ["own", "s"]
    assert found.records[1].location == Location(str(main), 2)
    assert c_reader.read(text, None, options=Options()).records[0].name == "s"
    assert read(text, "stat") == dataclasses.replace(read("#include <sys/stat.h>", "stat"))
    bad = text.replace("unsigned a", "nonsense a")
    assert problems(bad).startswith(
        f"{main}:3: struct s, member a: unknown type name 'nonsense'; declare it"
    )


def test_line_directives_move_the_place() -> None:
    text = '#line 40 "origin.y"\nstruct s { int a; };\n'
    assert read(text).location == Location("origin.y", 40)
    assert read(text, None).name == "s"


# -- the library -----------------------------------------------------------------------------------


def test_threads_read_at_the_same_time() -> None:
    found: list[int] = []

    def run(number: int) -> None:
        for turn in range(10):
            count = number * 100 + turn + 1
            found.append(read(f"struct s {{ char a[{count}]; uint32_t b; }};").size - count)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    assert all(4 <= extra < 8 for extra in found)


MISSING = """
sys.modules["clang"] = None
try:
    import ipckit._payload.c_reader
except ImportError as error:
    result = (str(error), error.name)
"""

UNUSABLE = """
from clang import cindex
cindex.Config.set_library_file(args[0])
from ipckit._payload import c_reader
from ipckit._payload.c_source import Options
try:
    c_reader.read("struct s { int a; };", None, options=Options())
except ImportError as error:
    result = (str(error), error.name)
"""


def test_a_missing_library_says_what_to_install(tmp_path: Path) -> None:
    with Child(MISSING) as child:
        assert child.result == ("Struct.from_c needs libclang: pip install libclang", "clang")
    (tmp_path / "libclang.so").write_text("no library")
    for name in ("libclang.so", "missing.so"):
        with Child(UNUSABLE, str(tmp_path / name)) as child:
            said, module = child.result
        assert said.startswith("Struct.from_c needs libclang: pip install libclang (")
        assert module == "clang"


def test_importing_ipckit_does_not_import_clang() -> None:
    with Child('import ipckit, ipckit.structs, sys; result = "clang" in sys.modules') as child:
        assert child.result is False
