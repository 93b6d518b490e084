"""Build the source distribution and the wheels of a release, and check the wheels.

$ make wheels                                # the source distribution and four wheels, in dist/
$ make wheels ARGS="musllinux_1_2_aarch64"   # one of the wheels

The C compiler of zig builds for each platform on any machine. It contains the headers of each C
library, and knows the symbols of each release of glibc. A wheel contains an extension module of the
limited API, which every Python from 3.11 on can load. A free-threaded Python builds wheels for its
own version only.

auditwheel finds the oldest C library with which a wheel works, and the libraries that it needs
besides those of the platform. abi3audit finds symbols that are not in the limited API.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMITED_API = "cp311"  # as in setup.py


@dataclass(frozen=True)
class Platform:
    """A platform that gets a wheel.

    Args:
        tag: the platform tag of the wheel (PEP 600, PEP 656).
        target: zig's name of the platform. For glibc it ends with the oldest release to support.
        multiarch: Python's name of the platform, for the file name of a module without abi3.
    """

    tag: str
    target: str
    multiarch: str


PLATFORMS = (
    Platform("manylinux_2_28_x86_64", "x86_64-linux-gnu.2.28", "x86_64-linux-gnu"),
    Platform("manylinux_2_28_aarch64", "aarch64-linux-gnu.2.28", "aarch64-linux-gnu"),
    Platform("musllinux_1_2_x86_64", "x86_64-linux-musl", "x86_64-linux-musl"),
    Platform("musllinux_1_2_aarch64", "aarch64-linux-musl", "aarch64-linux-musl"),
)

# A wheel for another processor is compiled with the pyconfig.h of this machine. The headers of the
# limited API only use the sizes in it, and whether a POSIX header exists. Both are the same on each
# 64-bit Linux. The compiler for each platform checks the sizes with this program.
SAME_SIZES = """
#include <Python.h>
#define SAME(size, type) _Static_assert(size == sizeof(type), "pyconfig.h is wrong about " #type)
SAME(SIZEOF_SHORT, short);
SAME(SIZEOF_INT, int);
SAME(SIZEOF_LONG, long);
SAME(SIZEOF_LONG_LONG, long long);
SAME(SIZEOF_VOID_P, void *);
SAME(SIZEOF_SIZE_T, size_t);
SAME(SIZEOF_WCHAR_T, wchar_t);
SAME(SIZEOF_DOUBLE, double);
SAME(SIZEOF_TIME_T, time_t);
SAME(SIZEOF_OFF_T, off_t);
SAME(SIZEOF_PID_T, pid_t);
#ifdef WORDS_BIGENDIAN
#error "pyconfig.h is wrong about the order of bytes"
#endif
"""


class BuildError(Exception):
    """A step failed. The message contains the command and its output."""


def run(
    *command: str | Path,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
) -> str:
    """Run a command, and return its standard output.

    Raises:
        BuildError: the command failed.
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"{shlex.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def zig(platform: Platform) -> list[str]:
    """Return the command that compiles for a platform."""
    return [sys.executable, "-m", "ziglang", "cc", "-target", platform.target]


def free_threaded() -> bool:
    """Return whether this Python has no GIL. Such a Python can't load a limited API module."""
    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def module_name(platform: Platform) -> str:
    """Return the file name of the extension in a platform's wheel."""
    if not free_threaded():
        return "_native.abi3.so"
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    return "_native" + suffix.replace(
        str(sysconfig.get_config_var("MULTIARCH")), platform.multiarch
    )


def wheel_tag(platform: Platform) -> str:
    """Return the tags of a wheel: the Python tag, the ABI tag and the platform tag."""
    version = "cp{}{}".format(*sys.version_info)
    python = f"{version}-{version}t" if free_threaded() else f"{LIMITED_API}-abi3"
    return f"{python}-{platform.tag}"


def copy_headers(target: Path) -> None:
    """Copy this Python's headers to `target`.

    Debian's pyconfig.h only includes another pyconfig.h, from a folder that a cross compiler does
    not search. The copy contains that other file instead.
    """
    headers = Path(sysconfig.get_path("include"))
    shutil.copytree(headers, target)
    multiarch = str(sysconfig.get_config_var("MULTIARCH"))
    config = headers.parent / multiarch / headers.name / "pyconfig.h"
    if config.exists():
        shutil.copy(config, target)


def build_environment(platform: Platform, date: str, headers: Path) -> dict[str, str]:
    """Return the environment in which setuptools compiles for a platform.

    Args:
        platform: the platform.
        date: the time of the files in the wheel, in seconds since 1970. All builds of a commit use
            the time of the commit, so that they are equal.
        headers: the folder of Python.h.
    """
    compiler = shlex.join(zig(platform))
    return {
        "CC": compiler,
        # The default would also search the folders of this Python's libraries.
        "LDSHARED": f"{compiler} -shared -Wl,-s",
        # By default, zig keeps the frame pointer for its profiler, and gcc does not.
        "CFLAGS": f"-g0 -fomit-frame-pointer -I{shlex.quote(str(headers))}",
        "SETUPTOOLS_EXT_SUFFIX": module_name(platform).removeprefix("_native"),
        "SOURCE_DATE_EPOCH": date,
    }


def source_date(tree: Path) -> str:
    """Return the time of the last commit, or without git the time of pyproject.toml."""
    try:
        return run("git", "log", "-1", "--format=%ct", cwd=tree).strip()
    except (BuildError, FileNotFoundError):
        return str(int((tree / "pyproject.toml").stat().st_mtime))


def build_sdist(tree: Path, out: Path) -> Path:
    """Build the source distribution in the folder `out`, and return its path."""
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", out, tree)
    return max(out.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime_ns)


def build_wheel(sdist: Path, platform: Platform, out: Path, date: str) -> Path:
    """Build a wheel from the source distribution, check it, and return its path in `out`."""
    with tempfile.TemporaryDirectory() as directory:
        headers = Path(directory) / "headers"
        copy_headers(headers)
        sizes = Path(directory) / "sizes.c"
        sizes.write_text(SAME_SIZES)
        run(*zig(platform), f"-I{headers}", "-c", sizes, "-o", sizes.with_suffix(".o"))
        with tarfile.open(sdist) as archive:
            archive.extractall(directory, filter="data")
        (tree,) = Path(directory).glob("ipckit*/")
        run(
            *(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", directory),
            *(f"--config-setting=--build-option=--plat-name={platform.tag}", tree),
            environment=build_environment(platform, date, headers),
        )
        (built,) = Path(directory).glob("*.whl")
        check_wheel(built, platform)
        return built.replace(out / built.name)


def serves(needed: str, promised: str) -> bool:
    """Return whether a module that needs one platform runs on each system of another.

    Args:
        needed: the tag of the oldest platform on which the module runs.
        promised: the tag of the other platform.

    >>> serves("manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
    True
    >>> serves("manylinux_2_34_x86_64", "manylinux_2_28_x86_64")
    False
    """
    parts = [re.fullmatch(r"(\w+linux)_(\d+)_(\d+)_(\w+)", tag) for tag in (needed, promised)]
    if None in parts:
        return False
    (libc, *release, machine), (libc2, *release2, machine2) = [m.groups() for m in parts if m]
    return (libc, machine) == (libc2, machine2) and [*map(int, release)] <= [*map(int, release2)]


def needs_static_tls(module: Path) -> bool:
    """Return whether a module's thread-local variables must be in the block of the C library.

    musl does not load such a module. glibc does until other libraries have used up the block.
    """
    return "STATIC_TLS" in run("readelf", "--dynamic", "--wide", module)


def check_wheel(wheel: Path, platform: Platform) -> None:
    """Check that a wheel works on each system of the platform in its name.

    Raises:
        BuildError: the wheel does not fit its name.
    """
    if not wheel.name.endswith(f"-{wheel_tag(platform)}.whl"):
        raise BuildError(f"{wheel.name}: expected the tags {wheel_tag(platform)}")
    with zipfile.ZipFile(wheel) as archive:
        modules = [name for name in archive.namelist() if name.endswith(".so")]
    if modules != [f"ipckit/{module_name(platform)}"]:
        raise BuildError(
            f"{wheel.name}: expected one extension, {module_name(platform)}: {modules}"
        )
    # Search an empty folder, because this machine's libraries may belong to another platform.
    with tempfile.TemporaryDirectory() as empty:
        command = ("auditwheel", "show", "--json", "--ldpaths", empty, wheel)
        found = json.loads(run(sys.executable, "-m", *command))
    with tempfile.TemporaryDirectory() as directory, zipfile.ZipFile(wheel) as archive:
        if needs_static_tls(Path(archive.extract(modules[0], directory))):
            raise BuildError(f"{wheel.name}: musl can't load thread-local variables of this model")
    if not serves(found["sym_tag"], platform.tag):
        raise BuildError(f"{wheel.name} uses symbols of {found['sym_tag']}")
    # zig calls musl libc.so. musl's loader is the C library itself, and loads no file of this name.
    libraries = set(found["external_libs"]) - ({"libc.so"} if "musl" in platform.tag else set())
    if libraries:
        raise BuildError(f"{wheel.name} needs libraries: {', '.join(sorted(libraries))}")
    if not free_threaded():
        run(sys.executable, "-m", "abi3audit", "--strict", wheel)


def main() -> int:
    """Build the platforms that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    tags = [platform.tag for platform in PLATFORMS]
    parser.add_argument("platforms", nargs="*", metavar="PLATFORM", help=", ".join(tags))
    parser.add_argument("--sdist", action="store_true", help="only the source distribution")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="by default dist/")
    arguments = parser.parse_args()
    unknown = set(arguments.platforms) - set(tags)
    if unknown:
        parser.error(f"unknown platform {min(unknown)!r}; known are {', '.join(tags)}")
    wanted = [] if arguments.sdist else arguments.platforms or tags
    chosen = [each for each in PLATFORMS if each.tag in wanted]
    date = source_date(ROOT)
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        sdist = build_sdist(ROOT, arguments.out)
        print(sdist, flush=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            builds = [pool.submit(build_wheel, sdist, each, arguments.out, date) for each in chosen]
            for build in builds:
                print(build.result(), flush=True)
    except BuildError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
