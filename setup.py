"""The extension module; everything else about the package stands in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup

LIMITED_API = "0x030B0000"  # Python 3.11: the first whose limited API has the buffer protocol

setup(
    ext_modules=[
        Extension(
            "ipckit._native",
            sources=sorted(str(path) for path in Path("native").rglob("*.c")),
            depends=sorted(str(path) for path in Path("native").rglob("*.h")),  # the sdist's too
            include_dirs=["native"],
            define_macros=[("Py_LIMITED_API", LIMITED_API), ("_GNU_SOURCE", None)],
            # -fvisibility: nothing but PyInit__native is anybody's to call.
            extra_compile_args=[
                *("-std=c17", "-O2", "-fvisibility=hidden"),
                *("-Wall", "-Wextra", "-Werror"),
            ],
            libraries=["rt"],  # mq_* lived there before glibc 2.34
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
