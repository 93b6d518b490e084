#!/bin/sh
# tests/unit and tests/contract over an extension built with ASan and UBSan, in a copy of the tree.
# Called by `make sanitize`; BIN is the absolute path of the virtual environment's bin directory.
set -eu
: "${BIN:?run make sanitize}"
here=$(cd "$(dirname "$0")/../.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
trap 'exit 1' HUP INT TERM

cd "$here"
cp -R ipckit native tests typings scripts pyproject.toml setup.py Makefile README.md "$copy"
cd "$copy"
rm -f ipckit/*.so
CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1" \
    "$BIN/python" setup.py -q build_ext --inplace

# Python itself is no sanitized program: the runtime must be there before it, and Python's own
# allocations that live to the end are not leaks of ours. -P -c: this copy, not the installed one.
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1
export UBSAN_OPTIONS=print_stacktrace=1
export PYTHONMALLOC=malloc
export PYTHONPATH="$copy"
"$BIN/python" -c 'import ipckit._native as n, os; assert n.__file__.startswith(os.getcwd()), n.__file__'
"$BIN/python" -m pytest -q -p no:cacheprovider -m "not soak" tests/unit tests/contract "$@"
