#!/bin/sh
# The tests by three workers, each in namespaces of its own where that is possible, else by one: with
# two, two processors are idle a sixth of the time, because tests wait for processes. The workers
# take tests in the order of conftest.py.
# Arguments go to pytest; PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/.."
export PYTHON
# The bytecode of the tests with their asserts rewritten is kept: making it takes each worker 8 s.
unset PYTHONDONTWRITEBYTECODE
if tests/isolated-python -c pass 2>/dev/null; then
    export IPCKIT_TEST_UNSHARED=1
    set -- -d --tx "3*popen//python=$PWD/tests/isolated-python" "$@"
fi
exec "$PYTHON" -m pytest "$@"
