"""The `kcore` command: serve, dump, verify, version.

Each command imports what it needs when it runs. `kcore serve` is to answer within a tenth of a
second of being called, and a parser with colours would cost more than the broker.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

DESCRIPTION = "A Kafka you can pip install: a broker for any Kafka client, and tools for its files."

EPILOG = """\
first steps:
  kcore serve                             a broker on 127.0.0.1:9092, data in ./kcore-data
  kcat -b 127.0.0.1:9092 -L               what it has, seen by a Kafka client
  echo hello | kcat -b 127.0.0.1:9092 -P -t greetings
  kcat -b 127.0.0.1:9092 -C -t greetings -e

"kcore COMMAND --help" says more about each.
"""

SERVE_EPILOG = """\
examples:
  kcore serve --data-dir /var/lib/kcore --listen 127.0.0.1:19092
  kcore serve --config server.properties -o num.partitions=3 -o flush.policy=sync
  kcore serve --listen 127.0.0.1:0 --ready-file ready     any free port; the file tells which
  kcore serve -o kcore.storage=memory                     nothing on disk, gone when it stops

Keys are Kafka's own. The command line wins over KCORE_... variables (KCORE_NUM_PARTITIONS=3), and
those over the file. Ctrl-C or SIGTERM stops cleanly, a second Ctrl-C at once.
exit codes: 0 stopped, 1 could not start or stop well, 2 wrong call or configuration
"""


_TOOLS = {
    "dump": "print any file of a data directory",
    "verify": "check a data directory offline",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        words = ["version"]
    if words and words[0] in _TOOLS:
        return _run_tool(words[0], words[1:])
    parser = _parser()
    if not words:
        parser.print_help(sys.stderr)
        return 2
    args = parser.parse_args(words)
    code: int = args.run(args)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kcore",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = commands.add_parser(
        "serve",
        help="run a broker",
        description="Runs a broker until it is told to stop.",
        epilog=SERVE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--config", metavar="FILE", help="a Kafka server.properties file")
    serve.add_argument("--data-dir", metavar="DIR", help="where the data is (default: kcore-data)")
    serve.add_argument(
        "--listen", metavar="HOST:PORT", help="address for clients (default: 127.0.0.1:9092)"
    )
    serve.add_argument(
        "-o",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="sets one configuration key; may be repeated",
    )
    serve.add_argument(
        "--ready-file",
        metavar="PATH",
        help="gets the bootstrap address once clients can connect, and goes when the broker stops",
    )
    serve.set_defaults(run=_serve)

    for name, text in _TOOLS.items():  # here for --help; main() hands them their arguments
        commands.add_parser(name, help=text, add_help=False)

    commands.add_parser("version", help="print the version").set_defaults(run=_version)
    return parser


def _serve(args: argparse.Namespace) -> int:
    overrides: dict[str, str] = {}
    for pair in args.overrides:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            return _usage(f"-o {pair}: must be KEY=VALUE, as in -o num.partitions=3")
        overrides[key.strip()] = value.strip()
    if args.data_dir is not None:
        overrides["log.dirs"] = args.data_dir
    if args.listen is not None:
        if "://" in args.listen:
            return _usage(f"--listen {args.listen}: must be HOST:PORT (-o listeners= takes names)")
        overrides["listeners"] = f"PLAINTEXT://{args.listen}"
    from kbroker.broker.app import serve

    return serve(config_file=args.config, overrides=overrides, ready_file=args.ready_file)


def _run_tool(name: str, words: list[str]) -> int:
    """The engine's own tools read their arguments, --help included, themselves."""
    from importlib import import_module

    code: int = import_module(f"kcore.{name}").main(words)
    return code


def _version(args: argparse.Namespace) -> int:
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
