"""The numbers of the system calls in which processes wait, by machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# A name means a family of calls, because the C library chooses one: glibc's semop() can call
# semtimedop, its poll() ppoll. AArch64 has only the newer call of each family.
NUMBERS: Final[Mapping[str, Mapping[str, frozenset[int]]]] = {
    machine: {name: frozenset(numbers) for name, numbers in table.items()}
    for machine, table in {
        "x86_64": {
            "accept": (43, 288),
            "clock_nanosleep": (35, 230),
            "connect": (42,),
            "epoll_wait": (232, 281, 441),
            "fcntl": (72,),
            "flock": (73,),
            "futex": (202, 449),
            "mq_timedreceive": (243,),
            "mq_timedsend": (242,),
            "msgrcv": (70,),
            "msgsnd": (69,),
            "pause": (34,),
            "poll": (7, 271),
            "read": (0, 19),
            "recvfrom": (45,),
            "recvmmsg": (299,),
            "recvmsg": (47,),
            "select": (23, 270),
            "semop": (65, 220),
            "sendmmsg": (307,),
            "sendmsg": (46,),
            "sendto": (44,),
            "sigsuspend": (130,),
            "sigtimedwait": (128,),
            "wait": (61, 247),
            "write": (1, 20),
        },
        "aarch64": {
            "accept": (202, 242),
            "clock_nanosleep": (101, 115),
            "connect": (203,),
            "epoll_wait": (22, 441),
            "fcntl": (25,),
            "flock": (32,),
            "futex": (98, 449),
            "mq_timedreceive": (183,),
            "mq_timedsend": (182,),
            "msgrcv": (188,),
            "msgsnd": (189,),
            "pause": (73,),
            "poll": (73,),
            "read": (63, 65),
            "recvfrom": (207,),
            "recvmmsg": (243,),
            "recvmsg": (212,),
            "select": (72,),
            "semop": (192, 193),
            "sendmmsg": (269,),
            "sendmsg": (211,),
            "sendto": (206,),
            "sigsuspend": (133,),
            "sigtimedwait": (137,),
            "wait": (95, 260),
            "write": (64, 66),
        },
    }.items()
}
