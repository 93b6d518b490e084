"""Whether the allocator keeps the memory of long messages that were freed."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from ipckit._core.allocator import keep_freed_memory

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's"
)

# Prints how often the kernel had to supply memory for messages of 2 MiB, eight at a time. That is
# once a page, or less often if it supplies huge pages.
PROGRAM = """
import resource, sys
from ipckit._core.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def use():
    messages = [bytes(2 << 20) for _ in range(8)]
for _ in range(2):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str, **variables: str) -> int:
    """Run the program, and return what it prints."""
    command = [sys.executable, "-c", PROGRAM, mode]
    environment = os.environ | variables
    return int(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)


def test_freed_memory_is_used_again() -> None:
    assert page_faults("keep") < page_faults("as it is") / 10


def test_a_c_library_without_mallopt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    keep_freed_memory()


def test_the_users_own_settings_stay() -> None:
    faults = page_faults("keep", MALLOC_MMAP_THRESHOLD_=str(32 << 20))
    assert faults > 10 * page_faults("keep")
