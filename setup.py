"""The extension module; everything else about the package stands in pyproject.toml.

The environment variable IPCKIT_WERROR=1 makes warnings of the C compiler errors. The project's own
checks set it. An installation does not: a newer compiler may warn about code that is correct.
"""

import os
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

# A free-threaded Python does not load modules of the usual limited API. It gets a module for its
# own version. The limited API for free threading (PEP 803) begins with Python 3.15, and it lacks
# PyModuleDef.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
LIMITED_API = "0x030B0000"  # Python 3.11: the first whose limited API has the buffer protocol

setup(
    ext_modules=[
        Extension(
            "ipckit._native",
            sources=sorted(str(path) for path in Path("native").rglob("*.c")),
            depends=sorted(str(path) for path in Path("native").rglob("*.h")),  # the sdist's too
            include_dirs=["native"],
            define_macros=[
                ("_GNU_SOURCE", None),
                *([] if FREE_THREADED else [("Py_LIMITED_API", LIMITED_API)]),
            ],
            # -fvisibility: nothing but PyInit__native is anybody's to call.
            extra_compile_args=[
                *("-std=c17", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra"),
                *(["-Werror"] if os.environ.get("IPCKIT_WERROR") == "1" else []),
            ],
            libraries=["rt"],  # mq_* lived there before glibc 2.34
            py_limited_api=not FREE_THREADED,
        )
    ],
    options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
