"""`kcore serve`: what its words mean, and the broker they start.

The options are read here and not by argparse, which with what it imports takes as long as a tenth
of the whole start.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

HELP = """\
usage: kcore serve [--config FILE] [--data-dir DIR] [--listen HOST:PORT]
                   [-o KEY=VALUE] [--dev] [--ready-file PATH]

Runs a broker until it is told to stop.

options:
  -h, --help          show this help message and exit
  --config FILE       a Kafka server.properties file
  --data-dir DIR      where the data is (default: kcore-data)
  --listen HOST:PORT  address for clients (default: 127.0.0.1:9092)
  -o KEY=VALUE        sets one configuration key; may be repeated
  --dev               for development and tests: groups assign at once and
                      notice a dead member in seconds
  --ready-file PATH   gets the bootstrap address once clients can connect, and
                      goes when the broker stops

examples:
  kcore serve --data-dir /var/lib/kcore --listen 127.0.0.1:19092
  kcore serve --config server.properties -o num.partitions=3 -o flush.policy=sync
  kcore serve --listen 127.0.0.1:0 --ready-file ready     any free port; the file tells which
  kcore serve --dev                                       short waits, for development
  kcore serve -o kcore.storage=memory                     nothing on disk, gone when it stops

Keys are Kafka's own. The command line wins over KCORE_... variables (KCORE_NUM_PARTITIONS=3), and
those over the file. Ctrl-C or SIGTERM stops cleanly, a second Ctrl-C at once.
exit codes: 0 stopped, 1 could not start or stop well, 2 wrong call or configuration
"""

EXIT_USAGE = 2

# What waits in production for machines that come up together, a developer only waits for.
DEV_SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "100",
    "group.consumer.min.session.timeout.ms": "100",
    "group.consumer.session.timeout.ms": "10000",
    "group.consumer.min.heartbeat.interval.ms": "50",
    "group.consumer.heartbeat.interval.ms": "500",
}

_WITH_VALUE = ("--config", "--data-dir", "--listen", "--ready-file", "-o")


class WrongCall(Exception):
    """The text says which word is wrong and what would be right."""


class ServeOptions:
    """The words of one call."""

    __slots__ = ("config_file", "help", "overrides", "ready_file")

    def __init__(self, words: Sequence[str]) -> None:
        """Raises WrongCall."""
        self.config_file: str | None = None
        self.ready_file: str | None = None
        self.help = False
        self.overrides: dict[str, str] = {}
        if "--dev" in words:  # first: what is said beside it wins
            self.overrides.update(DEV_SETTINGS)
        address: dict[str, str] = {}  # wins over -o, wherever it stands
        rest = iter(words)
        for word in rest:
            if word in ("-h", "--help"):
                self.help = True
            elif word != "--dev":
                name, value = _split(word)
                if value is None:
                    value = next(rest, None)
                    if value is None or value.startswith("-"):
                        raise WrongCall(f"{name} needs a value (kcore serve --help tells more)")
                self._take(name, value, address)
        self.overrides.update(address)

    def _take(self, name: str, value: str, address: dict[str, str]) -> None:
        if name == "--config":
            self.config_file = value
        elif name == "--ready-file":
            self.ready_file = value
        elif name == "--data-dir":
            address["log.dirs"] = value
        elif name == "--listen":
            if "://" in value:
                raise WrongCall(f"--listen {value}: must be HOST:PORT (-o listeners= takes names)")
            address["listeners"] = f"PLAINTEXT://{value}"
        else:
            key, equals, setting = value.partition("=")
            if not equals or not key.strip():
                raise WrongCall(f"-o {value}: must be KEY=VALUE, as in -o num.partitions=3")
            self.overrides[key.strip()] = setting.strip()


def _split(word: str) -> tuple[str, str | None]:
    """`--listen=x` and `-ox` are `--listen x` and `-o x`."""
    if word.startswith("-o") and len(word) > 2:
        return "-o", word[2:]
    name, equals, value = word.partition("=")
    if name not in _WITH_VALUE:
        raise WrongCall(f"serve has no option {word!r} (kcore serve --help lists them)")
    return name, value if equals else None


def main(words: Sequence[str]) -> int:
    """Runs a broker until it is told to stop. Returns the exit code."""
    try:
        options = ServeOptions(words)
    except WrongCall as wrong:
        sys.stderr.write(f"kcore: {wrong}\n")
        return EXIT_USAGE
    if options.help:
        sys.stdout.write(HELP)
        return 0
    # What is imported and opened stays: looking through it for garbage would be a tenth of the
    # start. The collector works once the broker answers (`app.py`).
    gc.disable()
    try:
        from kbroker.broker.app import serve

        return serve(
            config_file=options.config_file,
            overrides=options.overrides,
            ready_file=options.ready_file,
        )
    finally:
        gc.enable()
