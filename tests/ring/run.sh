#!/bin/sh
# A C header that knows nothing of Python, under the sanitizers:
#     tests/ring/run.sh TEST "SANITIZERS" [ARGUMENTS]
# builds TEST.c once for each of the sanitizers (gcc's names; "none" for as it is shipped, "barriers" as
# where membarrier(2) can't be had) and runs it. "@O0" after a sanitizer's name: do not optimize. gcc then
# takes 0.8 s instead of 2.6 s, and a program that runs for 2 s takes 0.5 s longer.
# CC is the compiler. EMULATOR, such as qemu-aarch64, runs programs for another processor.
set -eu
cd "$(dirname "$0")"
test=$1 sanitizers=$2
shift 2
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
export UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
for sanitizer in $sanitizers; do
    level="-O1 -g"
    case $sanitizer in
    *@O0) level="-O0 -g1" ;;
    esac
    options="$level -fno-omit-frame-pointer -fno-sanitize-recover=all -fsanitize=${sanitizer%@O0}"
    case $sanitizer in
    none) options=-O2 ;;
    barriers) options="-O2 -DNO_MEMBARRIER" ;;
    esac
    # shellcheck disable=SC2086
    ${CC:-cc} -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror $options -I../../native \
        -pthread -o "$here/test" "$test.c"
    # shellcheck disable=SC2086
    ${EMULATOR-} "$here/test" "$@"
done
