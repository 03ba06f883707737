"""What all commands share: how one is run, how it fails, how it prints.

Exit codes: 0 done, 1 failed, 2 wrong call. Results go to standard output as a table for people
or as JSON for programs; everything else (progress, warnings, errors) to standard error. Colour and
progress bars are for terminals only; NO_COLOR is honored.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT
TERMINATED = 143  # 128 + SIGTERM


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="A table for people, or JSON for programs.")
]


class Failure(Exception):
    """Ends a command with exit code 1. The text says what failed, where, and what to do next."""


def make_app(help_text: str) -> typer.Typer:
    """A command with subcommands."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # rich's help costs more than the whole budget of --help
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def single(function: Callable[..., Any]) -> typer.Typer:
    """A command without subcommands."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(function)
    return app


def run(app: typer.Typer, name: str, words: Sequence[str]) -> int:
    """Runs `kcore NAME WORDS` and returns its exit code. SIGTERM ends a command as Ctrl-C does:
    in order, with what it began undone or finished."""
    terminated = False

    def on_sigterm(_number: int, _frame: Any) -> None:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        code = _run(app, name, words)
    except KeyboardInterrupt:
        code = INTERRUPTED
    return TERMINATED if terminated and code == INTERRUPTED else code


def _run(app: typer.Typer, name: str, words: Sequence[str]) -> int:
    try:
        app(args=list(words), prog_name=f"kcore {name}")
    except SystemExit as ended:
        code = ended.code
        if code and _nobody_reads(ended):
            raise BrokenPipeError from None
        return code if isinstance(code, int) else FAILED if code else 0
    except Failure as failed:
        complain(str(failed))
        return FAILED
    return 0


def _nobody_reads(ended: BaseException | None) -> bool:
    """Whether whoever read our output has enough (kcore ... | head). typer and rich both catch
    that and end with code 1, as for a failure."""
    while ended is not None:
        if isinstance(ended, BrokenPipeError):
            return True
        ended = ended.__context__
    return False


def complain(text: str) -> None:
    sys.stderr.write(f"kcore: {text}\n")


def usage(text: str) -> typer.BadParameter:
    """To be raised: a wrong call, exit code 2."""
    return typer.BadParameter(text)


def confirm(question: str, yes: bool) -> None:
    """Asks on a terminal; elsewhere nobody could answer, so --yes is asked for."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise usage("nobody is there to be asked: give --yes")
    if not typer.confirm(question):
        raise Failure("nothing was done")


def fail_with(reasons: Sequence[object]) -> None:
    """Ends the command with a line for each of them, if there is any."""
    if reasons:
        raise Failure("\nkcore: ".join(map(str, reasons)))


def show(
    output: Output, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = ""
) -> None:
    """One list of like things. `columns` become JSON's keys; a column whose name begins with '#'
    holds numbers and is set to the right."""
    if output is Output.JSON:
        keys = [column.lstrip("#").lower().replace(" ", "_") for column in columns]
        show_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False,
        show_edge=False,
    )  # fmt: skip
    for column in columns:
        table.add_column(
            column.lstrip("#"), justify="right" if column.startswith("#") else "left",
            overflow="fold",
        )  # fmt: skip
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    stdout().print(table)


def show_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def say(text: str) -> None:
    """One line of result."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """One line that is not the result."""
    sys.stderr.write(text + "\n")


def _cell(value: Any) -> Any:
    from rich.text import Text

    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, Text) else Text(str(value))  # no markup in what others named


_PIPE_COLUMNS = 200  # nobody wants a file whose lines were folded for a terminal


def stdout() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    return Console(width=width, highlight=False, soft_wrap=False)


def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def human_bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
