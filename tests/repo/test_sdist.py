"""Goal: an sdist is the whole source; one that lacks it would install as a package without natives.

Method: MANIFEST.in is read as setuptools reads it, over the files of the checkout.
"""

from __future__ import annotations

from pathlib import Path

from setuptools._distutils.filelist import FileList

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_sources_of_the_natives_are_in_it_and_nothing_generated() -> None:
    native = sorted((ROOT / "kcore" / "_native").iterdir())
    names = {path.relative_to(ROOT).as_posix() for path in native}
    files = FileList()
    # Generated C lies there after a build in place; here whether or not there was one.
    files.allfiles = [*names, "kcore/__init__.pxd", "kcore/_native/batch.c"]
    files.files = ["kcore/_native/batch.c"]  # setuptools finds the sources of the extensions
    for line in (ROOT / "MANIFEST.in").read_text("ascii").splitlines():
        if line and not line.startswith("#"):
            files.process_template_line(line)
    wanted = {name for name in names if name.endswith((".pyx", ".pxd", ".h", "_impl.c"))}
    assert len(wanted) > 60
    assert set(files.files) == wanted | {"kcore/__init__.pxd"}
