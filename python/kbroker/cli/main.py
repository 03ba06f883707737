"""The `kcore` command: finds the subcommand and runs it.

Each command is a module of its own, imported when it is called. `kcore serve` is to answer within a
tenth of a second of being called, and the framework of the others costs more than the broker: so
this module and `serve` do with the standard library, and the others use typer and rich.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

# Name, what it does, the module that has `main(words) -> exit code`.
COMMANDS = (
    ("serve", "run a broker", "kbroker.cli.serve"),
    ("topic", "create, list, describe, alter and delete topics", "kbroker.cli.topic"),
    ("produce", "write records: lines, JSON lines, files", "kbroker.cli.produce"),
    ("consume", "read records from anywhere in a topic, alone or as a group",
     "kbroker.cli.consume"),
    ("group", "list, describe, reset and delete consumer groups", "kbroker.cli.group"),
    ("config", "show and change configurations", "kbroker.cli.config"),
    ("cluster", "who is there", "kbroker.cli.cluster"),
    ("bench", "measure throughput and latency of a broker", "kbroker.cli.bench"),
    ("dump", "print any file of a data directory", "kcore.dump"),
    ("verify", "check a data directory offline", "kcore.verify"),
    ("version", "print the version", ""),
)  # fmt: skip

HEAD = """\
usage: kcore COMMAND ...

A Kafka you can pip install: a broker for any Kafka client, and tools around it.

commands:
"""

TAIL = """
first steps:
  kcore serve                             a broker on 127.0.0.1:9092, data in ./kcore-data
  echo hello | kcore produce greetings    in another terminal
  kcore consume greetings --from start --exit-at-end
  kcore topic list

Commands that talk to a broker take --bootstrap HOST:PORT (or KCORE_BOOTSTRAP).
"kcore COMMAND --help" says more about each.
"""

_MODULES = {name: module for name, _, module in COMMANDS if module}
_HELP = ("-h", "--help", "help")

INTERRUPTED = 130  # 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        sys.stderr.write(help_text())
        return 2
    name, rest = words[0], words[1:]
    if name in _HELP:
        sys.stdout.write(help_text())
        return 0
    if name in ("version", "--version"):
        return _version()
    module = _MODULES.get(name)
    if module is None:
        return _usage(f"there is no command {name!r}{_meant(name)} (kcore --help lists them)")
    return _run(module, rest)


def _run(module: str, words: Sequence[str]) -> int:
    """Runs a command; how input and output end it is the same for all."""
    try:
        try:
            code: int = import_module(module).main(words)
        finally:
            sys.stdout.flush()  # what cannot be written is found out here, not while Python exits
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads has enough: kcore ... | head
        _drop_output()
        return 0
    except OSError as failed:
        _drop_output()
        where = failed.filename or "reading or writing"
        sys.stderr.write(f"kcore: {where}: {failed.strerror or failed}\n")
        return 1
    return code


def _drop_output() -> None:
    """Python would try again to write what is left when it exits, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def help_text() -> str:
    width = max(len(name) for name, _, _ in COMMANDS)
    lines = "".join(f"  {name:<{width}}  {text}\n" for name, text, _ in COMMANDS)
    return HEAD + lines + TAIL


def _meant(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, [known for known, _, _ in COMMANDS], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _version() -> int:
    from importlib.metadata import PackageNotFoundError, version

    try:
        text = version("kcore")
    except PackageNotFoundError:  # a source tree that was never installed
        text = "unknown"
    sys.stdout.write(f"kcore {text}\n")
    return 0


def _usage(text: str) -> int:
    sys.stderr.write(f"kcore: {text}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
