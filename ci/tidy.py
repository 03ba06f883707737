"""The house rules that a machine can check (docs/STYLE.md says why each exists).

One function a rule; each takes the tree and yields findings. `ci/tidy_allow.toml` lists what is
exempt, each entry with its reason; an entry that no longer exempts anything is itself a finding.
`python ci/tidy.py` prints all findings and exits 1 when there are any.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

TEXT_SUFFIXES = {".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".md", ".toml", ".java", ".sh", ".yml"}
SHIPPED = ("kcore/", "python/kbroker/")
GENERATED = ("python/kbroker/wire/schema/", "tests/golden/")
SKIPPED_FOLDERS = {".git", ".venv", "build", "dist", "wheelhouse", "kcore-data", "__pycache__"}

FUNCTION_LINES_MAX = 70
# First match counts.
FILE_LINES_MAX: list[tuple[str, int]] = [
    (r"python/kbroker/broker/handlers/k0[01]_\w+\.py$", 450),
    (r"python/kbroker/broker/handlers/\w+\.py$", 250),
    (r"(tests|benches)/.*\.py$", 1000),
    (r".*\.py$", 500),
    (r".*\.(pyx|pxd)$", 700),
]

# Native units by level: a unit cimports only units of a lower level. Units that read and write
# bytes ("bytes"), files ("files") and the wire ("wire") are families of their own on top of the
# common ones.
NATIVE_LEVELS: list[set[str]] = [
    {"layout", "debug", "counters", "endian"},
    {"cursor", "fileops"},
    {"varint", "crc32c", "posixops", "simops", "murmur2", "wirebuf"},
    {"batch", "writer", "mapping"},
    {"codecs", "batchwalk", "index", "message", "framing", "offset_record", "sending"},
    {"records", "segment", "request"},
    {"reading", "connection"},
    {"log", "scan", "encoder", "columns", "produce_codec", "fetch_codec", "keymap"}
    | {"offset_commit"},
    {"compact", "swap", "replica"},
    {"fetch_reader", "leader"},
    {"produce_run"},
]
FILES_FAMILY = {
    "fileops", "posixops", "simops", "mapping", "index", "segment", "scan", "log", "swap",
    "replica", "leader", "reading", "produce_run",
}  # fmt: skip
WIRE_FAMILY = {
    "produce_codec", "fetch_codec", "message", "framing", "offset_record", "fetch_reader",
    "offset_commit", "sending",
}  # fmt: skip
# Wire units that others may stand on, and who may.
WIRE_BASES = {
    "message": None, "framing": {"request", "connection", "produce_run"},
    "fetch_codec": {"fetch_reader"}, "produce_codec": {"produce_run"},
    "sending": {"connection"},
    "offset_record": {"offset_commit"},
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    rule: str
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.rule}] {self.text}"


@dataclass
class Tree:
    """The project's text files: path from the root, with '/', to content."""

    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, root: Path) -> Tree:
        files = {}
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if SKIPPED_FOLDERS.intersection(inside.parts) or not path.is_file():
                continue
            if any(part.endswith((".egg-info", "_cache")) for part in inside.parts):
                continue
            if path.suffix == ".c" and path.with_suffix(".pyx").exists():
                continue  # written by Cython
            if path.suffix in TEXT_SUFFIXES or inside.as_posix() in ("Makefile", ".ci/run"):
                # Bytes that are not UTF-8 come out as lone surrogates, which are not ASCII either.
                files[inside.as_posix()] = path.read_text("utf-8", "surrogateescape")
        return cls(files)

    def having(self, *suffixes: str, under: tuple[str, ...] = ("",)) -> Iterator[tuple[str, str]]:
        for path, text in self.files.items():
            if path.endswith(suffixes) and path.startswith(under):
                yield path, text

    @cached_property
    def syntax(self) -> dict[str, ast.Module]:
        return {path: ast.parse(text, path) for path, text in self.having(".py")}

    @cached_property
    def tests_text(self) -> str:
        return "\n".join(f"{p}\n{t}" for p, t in self.having(".py", ".java", under=("tests/",)))


def rule_ascii(tree: Tree) -> Iterator[Finding]:
    for path, text in tree.files.items():
        if text.isascii():
            continue
        for number, line in enumerate(text.splitlines(), 1):
            bad = sorted({c for c in line if not c.isascii()})
            if bad:
                yield Finding("ascii", path, number, f"not ASCII: {', '.join(map(ascii, bad))}")


def rule_file_size(tree: Tree) -> Iterator[Finding]:
    for path, text in tree.files.items():
        if path.startswith(GENERATED):
            continue
        limit = next((limit for pattern, limit in FILE_LINES_MAX if re.match(pattern, path)), None)
        count = text.count("\n")
        if limit is not None and count > limit:
            yield Finding("file-size", path, 1, f"{count} lines, the budget is {limit}")


def rule_function_size(tree: Tree) -> Iterator[Finding]:
    for path, module in tree.syntax.items():
        if path.startswith(GENERATED):
            continue
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                yield from _function_finding(path, node.lineno, node.end_lineno, node.name)
    for path, text in tree.having(".pyx", ".pxd"):
        for start, end, name in cython_functions(text):
            yield from _function_finding(path, start, end, name)


def _function_finding(path: str, start: int, end: int, name: str) -> Iterator[Finding]:
    if end - start + 1 > FUNCTION_LINES_MAX:
        text = f"{name} has {end - start + 1} lines, the budget is {FUNCTION_LINES_MAX}"
        yield Finding("function-size", path, start, text)


def cython_functions(text: str) -> Iterator[tuple[int, int, str]]:
    """First line, last line and name of every function with a body, found by indentation."""
    head = re.compile(r"^( *)(?:def|cdef(?! class)|cpdef|async def)\b[^=]*?(\w+)\(")
    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = head.match(line)
        if not match:
            continue
        indent, end = len(match[1]), number
        for later in range(number + 1, len(lines)):
            body = lines[later]
            if not body.strip():
                continue
            # A signature may go on over lines that close with ')' in the first column.
            if len(body) - len(body.lstrip()) <= indent and not body.lstrip().startswith(")"):
                break
            end = later
        yield number + 1, end + 1, match[2]


def rule_banned_calls(tree: Tree) -> Iterator[Finding]:
    for path, module in tree.syntax.items():
        if not path.startswith(SHIPPED):
            continue
        for node in ast.walk(module):
            if isinstance(node, ast.Assert):
                yield Finding("banned", path, node.lineno, "assert: use kbroker.base.check")
            elif isinstance(node, ast.Call) and (text := _banned_call(path, node)):
                yield Finding("banned", path, node.lineno, text)


def _banned_call(path: str, node: ast.Call) -> str | None:
    called = ast.unparse(node.func)
    if called == "print" and not path.startswith("python/kbroker/cli/"):
        return "print: log it, or return it"
    if path.startswith("python/kbroker/host/"):
        return None
    if re.fullmatch(r"time\.(time|time_ns|monotonic|monotonic_ns|sleep)", called):
        return f"{called}: take a Clock (kbroker.base.clock)"
    if called.startswith("random."):
        return f"{called}: take an Rng (kbroker.base.rng)"
    if called.startswith("struct.unpack") and path.startswith("python/kbroker/log/"):
        return f"{called}: formats belong to kcore"
    return None


def rule_leftovers(tree: Tree) -> Iterator[Finding]:
    words = re.compile(r"\b(TO[D]O|FIX[M]E|X[X]X|HA[C]K)\b")
    for path, text in tree.files.items():
        for number, line in enumerate(text.splitlines(), 1):
            if match := words.search(line):
                yield Finding("leftovers", path, number, f"{match[0]}: do it, or docs/NEXT.md")


def rule_outside_names(tree: Tree) -> Iterator[Finding]:
    """Nothing may depend on one machine's folders or name a package registry's host."""
    folders = r"(?<![\w.~$}])/(?:work|farm|home|root|Users|opt/wheels)/"
    hosts = r"(?:pypi|pythonhosted|npmjs|crates|debian|maven)\.(?:org|io)|repo1?\.maven"
    pattern = re.compile(f"{folders}|{hosts}")
    for path, text in tree.files.items():
        if path == "ci/tidy.py":
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if match := pattern.search(line):
                yield Finding("outside-names", path, number, f"names {match[0]}")


def module_name(path: str) -> str:
    dotted = path.removeprefix("python/").rsplit(".", 1)[0].replace("/", ".")
    return dotted.removesuffix(".__init__")


def rule_dead_modules(tree: Tree) -> Iterator[Finding]:
    entry = set(re.findall(r"\"([\w.]+):\w+\"", tree.files.get("pyproject.toml", "")))
    entry |= set(re.findall(r"= \"([\w.]+):\w+\"", tree.files.get("pyproject.toml", "")))
    used: set[str] = set()
    for path, text in tree.having(".py", ".pyx", ".pxd", under=SHIPPED):
        used |= _mentioned_modules(tree, path, text) - {module_name(path)}
    for path, _ in tree.having(".py", ".pyx", under=SHIPPED):
        name = module_name(path)
        discovered = re.search(r"/handlers/k\d\d_\w+\.py$", path)
        if path.endswith(("__init__.py", "__main__.py")) or discovered or name in entry:
            continue
        if path.startswith(GENERATED):
            continue
        if name not in used:
            yield Finding("dead-module", path, 1, f"nothing shipped imports {name}")


def _mentioned_modules(tree: Tree, path: str, text: str) -> set[str]:
    names: set[str] = set()
    if path.endswith(".py"):
        for node in ast.walk(tree.syntax[path]):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                # Lazy tables name their modules in strings.
                names |= {node.value, f"kcore.{node.value}", f"kbroker.{node.value}"}
                names.add(f"kcore._native.{node.value}")
        return names
    for match in re.finditer(r"^\s*from ([\w.]+) c?import ([^#\n]+)", text, re.M):
        parent = re.sub(r"^\.", "kcore._native.", match[1]).rstrip(".")
        names.add(parent)
        names |= {f"{parent}.{word}" for word in re.findall(r"\w+", match[2])}
    names |= set(re.findall(r"^\s*c?import ([\w.]+)", text, re.M))
    return names


def rule_native_units(tree: Tree) -> Iterator[Finding]:
    for path, _ in tree.having(".pyx", under=("kcore/_native/",)):
        unit = path.rsplit("/", 1)[1].removesuffix(".pyx")
        if path.removesuffix("x") + "i" not in tree.files:
            yield Finding("native-unit", path, 1, f"no {unit}.pyi beside it")
        imported = rf"kcore\._native(\.{unit}\b| import [^\n]*\b{unit}\b)|test_{unit}\.py"
        if not re.search(imported, tree.tests_text):
            yield Finding("native-unit", path, 1, f"no test imports kcore._native.{unit}")


def rule_native_arrows(tree: Tree) -> Iterator[Finding]:
    level_of = {unit: level for level, units in enumerate(NATIVE_LEVELS) for unit in units}
    pattern = re.compile(
        r"^\s*(?:from (?:kcore\._native)?\.?(\w+) cimport|cimport kcore\._native\.(\w+))"
    )
    for path, text in tree.having(".pyx", ".pxd", under=("kcore/_native/",)):
        unit = path.rsplit("/", 1)[1].rsplit(".", 1)[0]
        if unit == "__init__":
            continue
        if unit not in level_of:
            yield Finding("native-arrows", path, 1, f"{unit} has no level in ci/tidy.py")
            continue
        for number, line in enumerate(text.splitlines(), 1):
            match = pattern.match(line)
            used = (match[1] or match[2]) if match else None
            if used is None or used == unit or used not in level_of:
                continue
            crossing = used in FILES_FAMILY and unit not in FILES_FAMILY | WIRE_FAMILY
            bases = WIRE_BASES.get(used, set())
            private = used in WIRE_FAMILY and bases is not None and unit not in bases
            if level_of[used] >= level_of[unit] or crossing or private:
                yield Finding("native-arrows", path, number, f"{unit} may not cimport {used}")


def rule_handlers(tree: Tree) -> Iterator[Finding]:
    handler = re.compile(r"python/kbroker/broker/handlers/(\w+)\.py$")
    for path in tree.files:
        match = handler.match(path)
        if not match or match[1] == "__init__":
            continue
        api = re.fullmatch(r"k\d\d_(\w+)", match[1])
        if not match[1].startswith("_") and api is None:
            yield Finding("handler", path, 1, "a handler file is named kNN_<api>.py")
            continue
        tested = rf"\b(test_)?{match[1]}\b|\b{api[1].upper()}\b" if api else ""
        if not re.search(tested, tree.tests_text):
            yield Finding("handler", path, 1, f"no test says {match[1]} or {match[1][4:].upper()}")


RULES: dict[str, Callable[[Tree], Iterator[Finding]]] = {
    "ascii": rule_ascii,
    "file-size": rule_file_size,
    "function-size": rule_function_size,
    "banned": rule_banned_calls,
    "leftovers": rule_leftovers,
    "outside-names": rule_outside_names,
    "dead-module": rule_dead_modules,
    "native-unit": rule_native_units,
    "native-arrows": rule_native_arrows,
    "handler": rule_handlers,
}


def load_allowed(tree: Tree) -> dict[tuple[str, str], str]:
    entries = tomllib.loads(tree.files.get("ci/tidy_allow.toml", "")).get("allow", [])
    return {(entry["rule"], entry["path"]): entry["reason"] for entry in entries}


def findings(tree: Tree, rules: list[str] | None = None) -> list[Finding]:
    allowed = load_allowed(tree)
    found: list[Finding] = []
    exempt: set[tuple[str, str]] = set()
    for rule in rules or list(RULES):
        for finding in RULES[rule](tree):
            if (finding.rule, finding.path) in allowed:
                exempt.add((finding.rule, finding.path))
            else:
                found.append(finding)
    for rule, path in allowed.keys() - exempt:
        if rules is None or rule in rules:
            text = f"exempts {path} from {rule}, which it no longer breaks"
            found.append(Finding("allow-list", "ci/tidy_allow.toml", 1, text))
    return found


def main() -> int:
    found = findings(Tree.load(ROOT))
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
