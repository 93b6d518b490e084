#!/bin/sh
# Compile native/ with one compiler, and fail on a warning:
#     tests/soak/compile.sh COMPILER [ARGUMENTS]
# for example `tests/soak/compile.sh gcc-14` or `tests/soak/compile.sh zig cc -target aarch64-linux-musl`.
# PYTHON (python3) is the interpreter with the headers. Only COMPILER needs to know the target: the
# headers are the same on all 64-bit machines, so those of this machine serve a cross compiler.
# PYTHON_INCLUDE names their folder for a machine without an interpreter. BUILDS chooses from the three
# builds below. Exits with 77 if there is no such compiler.
set -eu
command -v "$1" >/dev/null || { echo "$1: not found"; exit 77; }
here=$(cd "$(dirname "$0")/../.." && pwd)
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

# Debian's pyconfig.h includes that of the target, which a cross compiler does not have.
if [ -n "${PYTHON_INCLUDE-}" ]; then
    config=$PYTHON_INCLUDE/pyconfig.h
else
    PYTHON_INCLUDE=$("${PYTHON:-python3}" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    config=$("${PYTHON:-python3}" -c 'import sysconfig; print(sysconfig.get_config_h_filename())')
fi
cp -R "$PYTHON_INCLUDE" "$made/python"
cp "$config" "$made/python/pyconfig.h"

# musl has no headers of the kernel, and Debian's musl-gcc does not look for those of glibc's packages.
# They do not depend on the C library.
mkdir "$made/kernel"
case $1 in
*musl-gcc)
    for part in linux asm-generic asm "$(uname -m)-linux-gnu/asm"; do
        [ ! -d "/usr/include/$part" ] || ln -s "/usr/include/$part" "$made/kernel"
    done
    ;;
esac

cd "$here/native"
for build in ${BUILDS:-shipped hardened debug}; do
    case $build in
    shipped) flags="-O2 -DPy_LIMITED_API=0x030B0000" ;;
    # What distributions add, and the API of one version, of which Py_GIL_DISABLED allows no other.
    hardened) flags="-O3 -DNDEBUG -D_FORTIFY_SOURCE=3 -fstack-protector-strong" ;;
    # The flow that warnings see is another one.
    debug) flags="-Og -DPy_LIMITED_API=0x030B0000" ;;
    *) echo "unknown build: $build"; exit 2 ;;
    esac
    find . -type d -exec mkdir -p "$made/$build/{}" ';'
    # shellcheck disable=SC2086 # the flags are several words
    find . -name '*.c' | xargs -P "$(nproc)" -I '{}' "$@" -std=c17 -fvisibility=hidden -fPIC \
        -Wall -Wextra -Werror -D_GNU_SOURCE $flags -I . -I "$made/python" -idirafter "$made/kernel" \
        -c '{}' -o "$made/$build/{}.o"
    # A library of atomics may use locks, which other processes do not see.
    if find "$made/$build" -name '*.o' -exec grep -l -E '__atomic_|__sync_' '{}' + ; then
        echo "$*: calls libatomic"
        exit 1
    fi
done
echo "$*: ok"
