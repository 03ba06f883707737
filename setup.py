"""Builds every kcore/_native/*.pyx into an extension module of its own.

Many small units instead of one: an edit recompiles one unit, and a call across units costs about
one nanosecond. `KCORE_DEBUG=1` builds with assertions and bounds checks and without
optimisation, `KCORE_SANITIZE=1` for `make sanitize`; everything else about the project is in
pyproject.toml.
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).resolve().parent
NATIVE = Path("kcore/_native")
DEBUG = os.environ.get("KCORE_DEBUG") == "1"
SANITIZE = os.environ.get("KCORE_SANITIZE") == "1"
CORES = os.cpu_count() or 1

SANITIZERS = ["-fsanitize=address,undefined"] if SANITIZE else []
if SANITIZE:
    FLAGS = ["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZERS]
elif DEBUG:
    FLAGS = ["-O0", "-g"]
else:
    FLAGS = ["-O3", "-g0"]

# Hand-written C that belongs to one unit: <unit>.pyx is linked with <unit>_impl.c when it exists.
extensions = []
for pyx in sorted((ROOT / NATIVE).glob("*.pyx")):
    sources = [str(NATIVE / pyx.name)]
    impl = NATIVE / f"{pyx.stem}_impl.c"
    if (ROOT / impl).exists():
        sources.append(str(impl))
    extensions.append(
        Extension(
            f"kcore._native.{pyx.stem}",
            sources,
            include_dirs=[str(NATIVE)],
            define_macros=[("KCORE_DEBUG", "1" if DEBUG else "0")],
            extra_compile_args=FLAGS,
            extra_link_args=SANITIZERS,
        )
    )

if not extensions:
    sys.exit(f"{ROOT / NATIVE} has no .pyx files: this is not the whole source")

setup(
    packages=[
        *find_packages(include=["kcore", "kcore.*"]),
        *find_packages("python", include=["kbroker", "kbroker.*"]),
    ],
    options={"build_ext": {"parallel": CORES}},
    ext_modules=cythonize(
        extensions,
        # Where a process is spawned instead of forked, workers would run this file again.
        nthreads=CORES if sys.platform == "linux" else 0,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": True,
            "binding": True,
        },
    ),
    exclude_package_data={"": ["*.c", "*.pyx"]},
)
