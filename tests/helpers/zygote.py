"""An interpreter that has imported ipckit, and forks the test children that ask for one.

`quick_python` starts it, with one end of a socket as standard input. Each request is answered by a
process that has nothing from the one that asks but what a new interpreter would have: descriptors,
environment, directory, arguments. It never saw a test.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
import types
import warnings
from contextlib import suppress
from typing import Any

# Where descriptors that came wait for their numbers: above those that a child is started with.
_ASIDE = 400
_REQUEST_MAX = 1 << 20


def serve(sock: socket.socket) -> dict[str, Any]:
    """Fork a child for each request; returns in the children only."""
    while True:
        data, fds, _, _ = socket.recv_fds(sock, _REQUEST_MAX, 250)
        if not data:
            os._exit(0)
        go, ready = os.pipe()
        between = os.fork()
        if between == 0:
            if os.fork():
                os._exit(0)
            os.close(ready)
            sock.close()
            return {**json.loads(data), "fds": fds, "go": go}
        os.close(go)
        for fd in fds:
            os.close(fd)
        # From here on the child's parent is the process that asks: see `quick_python`.
        os.waitpid(between, 0)
        os.close(ready)


def take_place(request: dict[str, Any]) -> None:
    """Become what a new interpreter would be, and tell the pid."""
    os.read(request["go"], 1)
    os.close(request["go"])
    aside = [os.dup2(fd, _ASIDE + index) for index, fd in enumerate(request["fds"])]
    os.closerange(3, _ASIDE)
    for fd, number in zip(aside[1:], request["numbers"], strict=True):
        os.dup2(fd, number)
    answer = socket.socket(fileno=aside[0])
    for fd in aside[1:]:
        os.close(fd)
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if request["session"]:
        os.setsid()
    if request["group"] >= 0:
        os.setpgid(0, request["group"])
    signal.signal(signal.SIGINT, _interrupted)
    for name, fd, mode in (("stdin", 0, "rb"), ("stdout", 1, "wb"), ("stderr", 2, "wb")):
        old: io.TextIOWrapper = getattr(sys, name)
        through = isinstance(old.buffer, io.FileIO)  # PYTHONUNBUFFERED
        file: Any = open(fd, mode, buffering=0 if through else -1, closefd=False)  # noqa: SIM115
        new = io.TextIOWrapper(
            file,
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=old.line_buffering,
            write_through=old.write_through,
        )
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    sys.argv, sys.orig_argv = request["argv"], request["orig_argv"]
    sys.warnoptions[:] = [*filter(None, os.environ.get("PYTHONWARNINGS", "").split(","))]
    sys.warnoptions += request["warnings"]
    warnings.filters[:] = _filters  # type: ignore[index]
    warnings._processoptions(sys.warnoptions)  # type: ignore[attr-defined]
    if request["faulthandler"]:
        sys._xoptions["faulthandler"] = True
        faulthandler.enable()
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    answer.send(str(os.getpid()).encode())
    answer.close()


def start(kind: str, what: str) -> None:
    """What the command line says: source, a module or a script."""
    scope = sys.modules["__main__"].__dict__
    if kind == "-c":
        sys.path.insert(0, "")
        exec(compile(what, "<string>", "exec"), scope)  # noqa: S102 - a test's own code
    elif kind == "-m":
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - text is wanted
        runpy._run_module_as_main(what)  # type: ignore[attr-defined]
    else:
        path = os.path.abspath(what)  # noqa: PTH100 - text is wanted
        sys.path.insert(0, os.path.dirname(os.path.realpath(path)))  # noqa: PTH120
        scope["__file__"] = path
        with open(path, "rb") as file:  # noqa: PTH123
            source = file.read()
        exec(compile(source, path, "exec"), scope)  # noqa: S102


_interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
_filters = [*warnings.filters]  # numpy adds some
# The directory of this file; a child has its own there.
del sys.path[0]
for name in sys.argv[1:]:
    with suppress(ImportError):
        importlib.import_module(name)
with suppress(ImportError):
    importlib.import_module("ipckit._core.lazy_names").import_all()
gc.collect()
gc.freeze()  # so that a child's collections do not copy the pages
found = serve(socket.socket(fileno=int(os.dup(0))))
take_place(found)
start(found["kind"], found["what"])
