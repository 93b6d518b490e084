#!/bin/sh
# native/seqlock.h, which knows nothing of Python, under the sanitizers: tests/c/run.sh [SCALE]
# prints "ok" for each build. SCALE is thousands of stores; some seconds at 20.
set -eu
cd "$(dirname "$0")"
scale=${1:-20}
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
export UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
for sanitizer in address,undefined thread; do
    ${CC:-cc} -std=c17 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Werror -fno-omit-frame-pointer \
        -fno-sanitize-recover=all -fsanitize="$sanitizer" -pthread -o "$here/test" test_seqlock.c
    "$here/test" "$scale"
done
${CC:-cc} -std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -pthread -o "$here/test" test_seqlock.c
"$here/test" "$scale"
