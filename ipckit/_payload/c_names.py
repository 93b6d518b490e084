"""The names that a struct, a member or an enumerator can't have in C and C++.

A keyword of C99 is refused, because no C program could use it. Any other name that some compiler
takes for a keyword or a macro gets a trailing underscore. The lists are those of gcc and clang, in
all standards from C99 to C23 and from C++11 to C++26, in strict and in GNU mode, and of glibc.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Final

from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_NAME: Final = re.compile("[A-Za-z_][A-Za-z_0-9]*")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEYWORDS_OF_C99: Final = _names("""
    auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while
""")
# Keywords of later standards, of C++ and of GNU C, and the macros of the GNU modes.
_OTHER_KEYWORDS: Final = _names("""
    alignas alignof and and_eq asm bitand bitor bool catch char16_t char32_t char8_t class co_await
    co_return co_yield compl concept const_cast consteval constexpr constinit contract_assert
    decltype delete dynamic_cast explicit export false friend mutable namespace new noexcept not
    not_eq nullptr operator or or_eq private protected public reinterpret_cast requires
    static_assert static_cast template this thread_local throw true try typeid typename typeof
    typeof_unqual using virtual wchar_t xor xor_eq
    arm i386 linux mips nios2 pixel powerpc sparc sun unix vax vector
""")
# The standard reserves these for the compiler, which uses many of them; new ones appear with each
# version. Of the others that begin with two underscores, such as __val, compilers use few.
_OF_COMPILERS: Final = re.compile(
    r"_[A-Z]\w*|__[A-Z]\w*|__\w*__"
    r"|__(?:builtin|cpp|has|is|objc|reference|seg|transaction|array|add|remove|make)_\w*"
    # macros inside glibc and the compilers' own headers
    r"|__\w+_defined|___int_\w+|__(?:attr|glibc_c99|have|stub)_\w+"
    r"|__(?:(?:extern_)?(?:always_)?inline|flexarr|fortify_function|ptr_t|restrict_arr"
    r"|returns_nonnull|size_t|ss_aligntype|wur)"
    r"|__(?:alignof|amd64|asm|attribute|auto_type|bases|bf16|block|bridge\w*|building_module"
    r"|cdecl|char16_t|char32_t|complex|const|constinit|cplusplus|datasizeof|decay|decltype"
    r"|direct_bases|fastcall|float80|float128|forceinline|fp16|funcref|i386|ibm128|imag|inline"
    r"|int8|int16|int32|int64|int128|k8|kernel|kindof|label|linux|module_private|nonnull|null"
    r"|null_unspecified|nullable|nullptr|pascal|pixel|private_extern|ptr32|ptr64|real|restrict"
    r"|signed|sptr|stdcall|strong|thiscall|thread|try|typeof|typeof_unqual|underlying_type|unix"
    r"|unsafe_unretained|unaligned|uptr|vector|vectorcall|virtual_inheritance|volatile|weak|wchar_t"
    r"|x86_64)"
)
# Macros of headers that C programs include next to this one, and that would change a member.
_MACROS: Final = _names("""
    BIG_ENDIAN BYTE_ORDER FD_SETSIZE LITTLE_ENDIAN NFDBITS NULL PDP_ENDIAN complex d_fileno errno
    h_addr h_errno ifa_broadaddr ifa_dstaddr ifc_buf ifc_req ifr_addr ifr_bandwidth ifr_broadaddr
    ifr_data ifr_dstaddr ifr_flags ifr_hwaddr ifr_ifindex ifr_map ifr_metric ifr_mtu ifr_name
    ifr_netmask ifr_newname ifr_qlen ifr_slave imaginary math_errhandling msg_cbytes s6_addr
    s6_addr16 s6_addr32 sa_handler sa_sigaction si_addr si_addr_lsb si_arch si_band si_call_addr
    si_fd si_int si_lower si_overrun si_pid si_pkey si_ptr si_status si_stime si_syscall si_timerid
    si_uid si_upper si_utime si_value sigev_notify_attributes sigev_notify_function st_atime
    st_ctime st_mtime
""")
_LIMITS: Final = re.compile(
    r"U?INT(?:\d+|_(?:FAST|LEAST)\d+|MAX|PTR)_(?:MAX|MIN|WIDTH|C)"
    r"|(?:PTRDIFF|SIG_ATOMIC|SIZE|WCHAR|WINT)_(?:MAX|MIN|WIDTH)"
)
_MACROS_OF_SOCKETS: Final = re.compile(
    r"(?:AF|MSG|PF|SCM|SHUT|SO|SOCK|SOL)_\w+|(?:FIO|SIOC)[A-Z]+(?:_OLD)?|SOMAXCONN"
)
# What else the headers declare: these are no types and no enumerators of this header.
_DECLARED: Final = {
    "stddef.h": re.compile("max_align_t|nullptr_t|ptrdiff_t|size_t"),
    "stdint.h": re.compile(r"u?int(?:(?:_fast|_least)?\d+|max|ptr)_t"),
    "sys/types.h": re.compile(
        r"u?_?int\d+_t|u_(?:char|int|long|quad_t|short)|uint|ulong|ushort"
        r"|(?:blkcnt|fsblkcnt|fsfilcnt|ino|off)(?:64)?_t|pthread_\w+|p?select"
        r"|(?:blksize|caddr|clock|clockid|daddr|dev|fsid|gid|id|key|loff|mode|nlink|pid|quad"
        r"|register|sigset|size|ssize|suseconds|time|timer|uid|useconds)_t"
        r"|fd_mask|fd_set|timespec|timeval"
    ),
    "sys/socket.h": re.compile(
        r"accept4?|bind|cmsghdr|connect|getpeername|getsockname|getsockopt|iovec|isfdtype|linger"
        r"|listen|m?msghdr|osockaddr|recv|recvfrom|recvm?msg|sa_family_t|send|sendm?msg|sendto"
        r"|setsockopt|shutdown|sockaddr|sockaddr_storage|sockatmark|socket|socketpair|socklen_t"
        r"|ucred"
    ),
}


def _is_reserved(name: str, headers: Collection[str]) -> bool:
    """Return whether a name is a keyword or a macro."""
    return (
        name in _OTHER_KEYWORDS
        or name in _MACROS
        or any(each.fullmatch(name) for each in (_OF_COMPILERS, _LIMITS))
        or ("sys/socket.h" in headers and bool(_MACROS_OF_SOCKETS.fullmatch(name)))
    )


def _is_declared(name: str, headers: Collection[str]) -> bool:
    """Return whether a header declares a type, a function or an enumerator of that name."""
    with_types = {*headers, *(("sys/types.h",) if "sys/socket.h" in headers else ())}
    return name == "std" or any(_DECLARED[h].fullmatch(name) for h in with_types if h in _DECLARED)


def checked_c_name(name: str) -> str:
    """Return the name; raise InvalidArgument if it is not valid in C."""
    if not _NAME.fullmatch(name) or name in _KEYWORDS_OF_C99:
        message = f"{name!r} is not a valid name in C; rename it"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return name


class Scope:
    """The names of one scope of C: the members of a struct, or the types and enumerators.

    Args:
        wanted: all names that Python has in the scope. A renamed one does not become one of them.
        headers: the headers that are included.
        avoided: names that the scope can't have either.
        members: whether they are the names of members; members can have the name of a type.
    """

    def __init__(
        self,
        wanted: Iterable[str],
        headers: Collection[str],
        *,
        avoided: Collection[str] = (),
        members: bool = True,
    ) -> None:
        self._wanted = set(wanted)
        self._headers = headers
        self._avoided = set(avoided)
        self._members = members
        self._used: set[str] = set()

    def add(self, name: str) -> str:
        """Return the name in C: itself, or with as many trailing underscores as it needs.

        Raises:
            InvalidArgument: the name is a keyword of C99, or it has characters that C does not.
        """
        found = checked_c_name(name)
        if self._is_reserved(name):
            found += "_"  # no reserved name is another one with an underscore
        while found in self._used | self._avoided or (found != name and found in self._wanted):
            found += "_"
        self._used.add(found)
        return found

    def fresh(self, name: str) -> str:
        """Return a name that collides with nothing."""
        while name in self._wanted | self._used | self._avoided:
            name += "_"
        self._used.add(name)
        return name

    def _is_reserved(self, name: str) -> bool:
        return _is_reserved(name, self._headers) or (
            not self._members and _is_declared(name, self._headers)
        )
