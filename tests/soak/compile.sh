#!/bin/sh
# Compile native/ with one compiler, and fail on a warning:
#     tests/soak/compile.sh COMPILER [ARGUMENTS]
# for example `tests/soak/compile.sh gcc-14` or `tests/soak/compile.sh zig cc -target aarch64-linux-musl`.
# PYTHON (python3) is the interpreter with the headers. Only COMPILER needs to know the target: the
# headers are the same on all 64-bit machines, so a cross compiler uses those of this machine.
# PYTHON_INCLUDE names their folder for a machine without an interpreter. BUILDS chooses from the three
# builds below. Exits with 77 if the compiler is not installed.
set -eu
command -v "$1" >/dev/null || { echo "$1: not found"; exit 77; }
here=$(cd "$(dirname "$0")/../.." && pwd)
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

query='import sysconfig; print(sysconfig.get_path("include"))'
headers=${PYTHON_INCLUDE:-$("${PYTHON:-python3}" -c "$query")}
cp -R "$headers" "$made/python"
# Debian's pyconfig.h only includes another one, from a folder that a cross compiler does not search.
config=$(dirname "$headers")/$(uname -m)-linux-gnu/$(basename "$headers")/pyconfig.h
[ ! -e "$config" ] || cp "$config" "$made/python"

# Debian's musl has no kernel headers, and its musl-gcc does not search the folder that contains them.
# They are the same for each C library.
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
    # The flags that distributions add, and the full API, which a free-threaded Python uses.
    hardened) flags="-O3 -DNDEBUG -D_FORTIFY_SOURCE=3 -fstack-protector-strong" ;;
    # Some warnings depend on the optimization.
    debug) flags="-Og -DPy_LIMITED_API=0x030B0000" ;;
    *) echo "unknown build: $build"; exit 2 ;;
    esac
    find . -type d -exec mkdir -p "$made/$build/{}" ';'
    # shellcheck disable=SC2086 # the flags are several words
    find . -name '*.c' | xargs -P "$(nproc)" -I '{}' "$@" -std=c17 -fvisibility=hidden -fPIC \
        -Wall -Wextra -Werror -D_GNU_SOURCE $flags -I . -I "$made/python" -idirafter "$made/kernel" \
        -c '{}' -o "$made/$build/{}.o"
    # libatomic may use locks in the memory of one process, which other processes do not see.
    if find "$made/$build" -name '*.o' -exec grep -l -E '__atomic_|__sync_' '{}' + ; then
        echo "$*: calls libatomic"
        exit 1
    fi
done
echo "$*: ok"
