"""What holds for every test: which kcore is under test, that CI skips nothing, and that generated
examples are the same in every run.

The package under test is the installed wheel, as a stranger has it. Three things see to that:
pytest's importlib mode puts no folder of the checkout on `sys.path` (pyproject.toml),
PYTHONSAFEPATH keeps the working directory off it, here and in child processes (Makefile), and this
file appends the checkout at the very end, where only `tests` itself is found first, so that
`from tests.ref import ...` works. Whoever builds in place runs with PYTHONPATH=.:python, which
comes before site-packages, and tests that build.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

# Entries that are relative to the checkout must hold in child processes that run elsewhere, too.
if entries := os.environ.get("PYTHONPATH"):
    os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, entries.split(os.pathsep)))

# Hypothesis gives an example 200 ms and finds a fault in data that comes slowly: on a machine that
# is busy both say nothing. `--hypothesis-profile=search` looks for examples that nobody has seen.
_UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("search", _UNHURRIED)
settings.register_profile("same", _UNHURRIED, derandomize=True, database=None)
settings.load_profile("same")

# Whoever runs the tests in the background of a script hands down that SIGINT is ignored; here it is
# as at a terminal, for children that are interrupted, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

IN_CI = os.environ.get("CI", "").lower() == "true"


def pytest_configure(config: pytest.Config) -> None:
    spec = importlib.util.find_spec("kcore")
    if spec is None or spec.origin is None:
        raise pytest.UsageError("kcore is not installed: run `make test`")
    package = Path(spec.origin).parent
    # ABI tags differ, so any compiled module counts.
    if not any(package.joinpath("_native").glob("*.so")):
        raise pytest.UsageError(
            f"{package} holds no compiled modules: run `make test`, or `make build` and"
            " PYTHONPATH=.:python pytest"
        )


def pytest_report_header(config: pytest.Config) -> str:
    spec = importlib.util.find_spec("kcore")
    origin = spec.origin if spec is not None else None
    return f"kcore under test: {Path(origin).parent if origin else 'none'}"


def _fail_instead_of_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """CI proves what the README promises: there, a peer that is missing is a failure."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"skipped where CI=true, which counts as a failure: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    promised = item.get_closest_marker("peer") or item.get_closest_marker("client")
    if item.get_closest_marker("optional"):
        promised = None
    if IN_CI and promised and report.skipped and not hasattr(report, "wasxfail"):
        _fail_instead_of_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself whole may hold peer tests: nobody can tell, so it fails too."""
    report = yield
    if IN_CI and report.outcome == "skipped":
        _fail_instead_of_skip(report)
    return report
