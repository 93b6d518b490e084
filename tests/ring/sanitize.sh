#!/bin/sh
# The tests of calls in one process over an extension built with ASan and UBSan, in a copy of the tree.
# Called by `make sanitize`; BIN is the absolute path of the virtual environment's bin directory.
set -eu
: "${BIN:?run make sanitize}"
here=$(cd "$(dirname "$0")/../.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
trap 'exit 1' HUP INT TERM

cd "$here"
cp -R ipckit native tests typings scripts pyproject.toml setup.py Makefile README.md LICENSE "$copy"
cd "$copy"
rm -f ipckit/*.so
CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1" \
    "$BIN/python" setup.py -q build_ext --inplace

# Python itself is no sanitized program: the runtimes must be there before it, and what Python
# keeps to the end is no leak. A segmentation fault is faulthandler's to show: some tests' children
# die of one on purpose. The reports go to files, because pytest captures what a test prints.
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:handle_segv=0:allocator_may_return_null=1:log_path="$copy/report"
UBSAN_OPTIONS=print_stacktrace=1:log_path="$copy/report"
PYTHONMALLOC=malloc
PYTHONPATH=$copy
export LD_PRELOAD ASAN_OPTIONS UBSAN_OPTIONS PYTHONMALLOC PYTHONPATH

"$BIN/python" -c 'import ipckit._native as n, os; assert n.__file__.startswith(os.getcwd() + "/")'
# Left out: what runs mypy or whole test runs of its own, and nothing of the extension.
status=0
"$BIN/python" -m pytest -q -p no:cacheprovider -m "not soak" ${@:-tests/core tests/payload \
    tests/testing tests/*/test_contract*.py tests/shm/test_processes.py tests/sockets/test_framing.py} \
    || status=$?
for report in "$copy"/report.*; do
    [ -e "$report" ] || continue
    LD_PRELOAD='' cat "$report"
    status=1
done
exit "$status"
