"""The house rules hold, and each of them notices what it is there to notice.

Goal: a rule that cannot fail is decoration. Method: the tree as it is has no findings; a tree of
one planted offender per rule has exactly that one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.tidy import RULES, Tree, findings

ROOT = Path(__file__).resolve().parent.parent.parent
LONG_FUNCTION = "def long():\n" + "    x = 1\n" * 70

# rule -> a tree with one offender
OFFENDERS: dict[str, dict[str, str]] = {
    "ascii": {"docs/x.md": "a dash \u2013 too fine\n"},
    "file-size": {"tests/test_x.py": "\n" * 1001},
    "function-size": {"tests/test_x.py": LONG_FUNCTION},
    "banned": {"kcore/__init__.py": "print('hello')\n"},
    "leftovers": {"docs/x.md": "TO" + "DO: later\n"},
    "outside-names": {"docs/x.md": "see /" + "home/me/notes\n"},
    "dead-module": {"kcore/lonely.py": "x = 1\n"},
    "native-unit": {"kcore/_native/cursor.pyx": "", "tests/test_cursor.py": ""},
    "native-arrows": {"kcore/_native/batch.pxd": "from kcore._native.records cimport x\n"},
    "handler": {"python/kbroker/broker/handlers/k99_new.py": "x = 1\n"},
}


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree.load(ROOT)


@pytest.mark.parametrize("rule", RULES)
def test_the_tree_keeps_the_rule(rule: str, tree: Tree) -> None:
    assert not [str(finding) for finding in findings(tree, [rule])]


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_notices_its_offender(rule: str) -> None:
    found = findings(Tree(OFFENDERS[rule]), [rule])
    assert [finding.rule for finding in found] == [rule]


@pytest.mark.parametrize(
    "text, banned",
    [
        ("import time\ntime.time()\n", True),
        ("import random\nrandom.random()\n", True),
        ("def f(x):\n    assert x\n", True),
        ("def f(clock):\n    return clock.wall_ms()\n", False),
    ],
)
def test_banned_calls(text: str, banned: bool) -> None:
    for path, exempt in (
        ("kcore/log_x.py", False),
        ("python/kbroker/host/x.py", "assert" not in text),
    ):
        found = findings(Tree({path: text}), ["banned"])
        assert bool(found) == (banned and not exempt)


def test_cython_functions_are_measured_by_their_indentation() -> None:
    body = "        x = 1\n" * 70
    text = f"cdef class Log(Base):\n    cdef int go(self,\n               int a) except -1:\n{body}"
    [finding] = findings(Tree({"kcore/_native/log.pyx": text}), ["function-size"])
    assert finding.line == 2
    assert finding.text.startswith("go has 72 lines")


def test_an_exemption_needs_something_to_exempt() -> None:
    entry = '[[allow]]\nrule = "ascii"\npath = "docs/x.md"\nreason = "names"\n'
    offender = {"docs/x.md": "\u2013\n"}
    assert not findings(Tree({"ci/tidy_allow.toml": entry, **offender}), ["ascii"])
    [stale] = findings(Tree({"ci/tidy_allow.toml": entry}), ["ascii"])
    assert stale.rule == "allow-list"
