"""Names of types that a C text may use without an include, and what declares them.

A declaration of the text itself wins: `c_reader` uses this table only for an unknown name.
"""

from __future__ import annotations

from typing import Final

import ipckit._native as native

_OF_SYS_TYPES: Final = """
    ssize_t pid_t uid_t gid_t id_t off_t loff_t mode_t dev_t ino_t nlink_t blksize_t blkcnt_t
    fsblkcnt_t fsfilcnt_t key_t time_t clock_t clockid_t useconds_t suseconds_t u_char u_short u_int
    u_long ushort uint ulong u_int8_t u_int16_t u_int32_t u_int64_t
"""
_OF_LINUX_TYPES: Final = """
    __s8 __u8 __s16 __u16 __s32 __u32 __s64 __u64 __le16 __be16 __le32 __be32 __le64 __be64 __sum16
    __wsum __poll_t __aligned_u64 __aligned_be64 __aligned_le64
"""


def _exact(sign: str, width: str, bits: int) -> tuple[str, str]:
    name = f"{sign}int{width}{bits}_t"
    return name, f"typedef __{name[:-2].upper()}_TYPE__ {name};"


# From the name of a type to a line of C. Types that the compiler knows get a typedef, because a
# header also declares other names, which the text may declare differently.
DECLARED_BY: Final = {
    **dict(
        _exact(sign, width, bits)
        for sign in ("", "u")
        for width in ("", "_least")
        for bits in (8, 16, 32, 64)
    ),
    **{
        f"{sign}int_fast{bits}_t": "#include <stdint.h>"
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
    "intptr_t": "typedef __INTPTR_TYPE__ intptr_t;",
    "uintptr_t": "typedef __UINTPTR_TYPE__ uintptr_t;",
    "intmax_t": "typedef __INTMAX_TYPE__ intmax_t;",
    "uintmax_t": "typedef __UINTMAX_TYPE__ uintmax_t;",
    "size_t": "typedef __SIZE_TYPE__ size_t;",
    "ptrdiff_t": "typedef __PTRDIFF_TYPE__ ptrdiff_t;",
    "wchar_t": "typedef __WCHAR_TYPE__ wchar_t;",
    "char16_t": "typedef __CHAR16_TYPE__ char16_t;",
    "char32_t": "typedef __CHAR32_TYPE__ char32_t;",
    "max_align_t": "#include <stddef.h>",
    "va_list": "#include <stdarg.h>",
    "bool": "typedef _Bool bool;",
    "off64_t": "typedef __INT64_TYPE__ off64_t;",
    "socklen_t": "typedef unsigned int socklen_t;",
    "sa_family_t": "typedef unsigned short sa_family_t;",
    "in_addr_t": "typedef __UINT32_TYPE__ in_addr_t;",
    "in_port_t": "typedef __UINT16_TYPE__ in_port_t;",
    "mqd_t": "typedef int mqd_t;",
    # gcc has these as keywords, so its preprocessed output uses them without a declaration.
    "_Float32": "typedef float _Float32;",
    "_Float64": "typedef double _Float64;",
    "_Float32x": "typedef double _Float32x;",
    "_Float64x": "typedef long double _Float64x;",
    "_Float128": "typedef __float128 _Float128;",
    **dict.fromkeys(_OF_SYS_TYPES.split(), "#include <sys/types.h>"),
    **dict.fromkeys(_OF_LINUX_TYPES.split(), "#include <linux/types.h>"),
}


def declaration_of(name: str, target: str | None) -> str:
    """Return the line of C that declares a known name.

    Args:
        name: a name of `DECLARED_BY`.
        target: the LLVM triple of the target; None for this machine.
    """
    known = native.TYPEDEFS.get(name)
    if target is not None or known is None:
        return DECLARED_BY[name]
    # Not by a header: a text that `gcc -E` made would declare the header's other names again.
    code, size, _ = known
    return f"typedef __{'U' * (code == 'u')}INT{8 * size}_TYPE__ {name};"
