"""Apache Kafka's DumpLogSegments reads a directory that we wrote, and has nothing to complain
about.

The directory has closed segments and an active one, every codec, keys, headers, nulls,
transactions, and each file beside the log. Offsets and payloads that the tool prints are compared
with what was written. That its silence means something is shown by breaking each rule once.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import kcore
from kcore.files import names
from kcore.files.epoch_checkpoint import EpochEntry, store_epoch_checkpoint
from kcore.files.producer_snapshot import ProducerEntry, store_producer_snapshot
from kcore.files.txn_index import AbortedTxn, store_txn_index
from kcore.verify import verify_dir
from tests.peers import require_peer, run_java

pytestmark = pytest.mark.peer

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
START_MS = 1_700_000_000_000
COMPLAINTS = ("Mismatches", "mismatch", "out of order", "not found", "Non-consecutive", "invalid")
ABORTED = AbortedTxn(7000, 40, 49, 50)
PRODUCERS = [
    ProducerEntry(7000, 2, 9, 49, 9, START_MS + 5, 3, -1),
    ProducerEntry(7001, 0, 4, 30, 4, START_MS, -1, 26),
    ProducerEntry(7002, 0, -1, -1, 0, START_MS, 1, -1),
]


def values_of(round_index: int) -> list[bytes | None]:
    return [None if n == 3 else f"{round_index}/{n}/".encode() * (n + 1) for n in range(8)]


def write_log(directory: Path, rounds: int = 150) -> list[bytes]:
    """Returns the payload of every offset as the tool prints it: nothing for a null."""
    payloads: list[bytes] = []
    with kcore.Log.open(directory, segment_bytes=8_000, index_interval_bytes=300) as log:
        for number in range(rounds):
            values = values_of(number)
            data = kcore.encode(
                values,
                keys=[None if n == 5 else b"key%d" % n for n in range(8)],
                headers=[[("h1", b"x"), ("h2", None)] if n == 1 else [] for n in range(8)],
                # Neighbours go back in time, as producers' clocks do.
                timestamps=[START_MS + number * 10 + (n * 37) % 50 for n in range(8)],
                codec=CODECS[number % len(CODECS)],
            )
            log.append(data, leader_epoch=number // 100)
            payloads += [value or b"" for value in values]
    return payloads


@pytest.fixture(scope="module")
def partition(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    directory = tmp_path_factory.mktemp("ours") / "orders-0"
    payloads = write_log(directory)
    store_txn_index(directory / names.make_segment_name(0, names.TXN_INDEX_SUFFIX), [ABORTED])
    snapshot = names.make_segment_name(len(payloads), names.SNAPSHOT_SUFFIX)
    store_producer_snapshot(directory / snapshot, PRODUCERS)
    epochs = [EpochEntry(0, 0), EpochEntry(1, 800)]
    store_epoch_checkpoint(directory / names.LEADER_EPOCH_CHECKPOINT, epochs)
    return directory, payloads


def dump(files: list[Path], *options: str) -> subprocess.CompletedProcess[str]:
    require_peer("kafka")
    listed = ",".join(str(path) for path in files)
    return run_java("org.apache.kafka.tools.DumpLogSegments", "--files", listed, *options)


def files_of(directory: Path, suffix: str) -> list[Path]:
    return sorted(directory.glob(f"*{suffix}"))


def complaints(stderr: str) -> str:
    """Kafka 4.3's tool counts from -1 and so finds "-1 is followed by <base>" in every segment
    but the first, in its own broker's files too. Exactly that is taken out."""
    return re.sub(
        r"Non-consecutive offsets in \S*/0*(\d+)\.log\n  -1 is followed by \1\n(?!  )", "", stderr
    )


def clean_output(files: list[Path], *options: str) -> str:
    done = dump(files, *options)
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert not [word for word in COMPLAINTS if word in done.stdout]
    return done.stdout


def test_records_agree(partition: tuple[Path, list[bytes]]) -> None:
    directory, payloads = partition
    logs = files_of(directory, ".log")
    assert len(logs) > 3
    output = clean_output(logs, "--deep-iteration", "--print-data-log")
    records = re.findall(
        r"^\| offset: (\d+) CreateTime: (\d+) keySize: (-?\d+) valueSize: (-?\d+) .*?"
        r"headerKeys: \[(.*?)\](?: key: (\S+))?(?: payload: (\S*))?$",
        output,
        re.MULTILINE,
    )
    assert [int(record[0]) for record in records] == list(range(len(payloads)))
    digest = hashlib.sha256(b"\0".join(record[6].encode() for record in records)).hexdigest()
    assert digest == hashlib.sha256(b"\0".join(payloads)).hexdigest()
    for offset, (_, timestamp, key_size, value_size, header_keys, key, _) in enumerate(records):
        number, n = divmod(offset, 8)
        assert int(timestamp) == START_MS + number * 10 + (n * 37) % 50
        assert (int(key_size), key) == ((-1, "") if n == 5 else (4, f"key{n}"))
        assert int(value_size) == (-1 if n == 3 else len(payloads[offset]))
        assert header_keys == ("h1,h2" if n == 1 else "")
    batches = re.findall(r"compresscodec: (\w+) crc: \d+ isvalid: (\w+)", output)
    assert batches == [(CODECS[n % 5], "true") for n in range(len(payloads) // 8)]


def test_indexes_pass(partition: tuple[Path, list[bytes]]) -> None:
    directory, _ = partition
    indexes = files_of(directory, ".index") + files_of(directory, ".timeindex")
    output = clean_output(indexes, "--index-sanity-check")
    assert output.count("passed sanity check.") == len(indexes)
    clean_output(indexes, "--verify-index-only")
    printed = clean_output(indexes)
    entries = sum(path.stat().st_size // 8 for path in files_of(directory, ".index"))
    times = sum(path.stat().st_size // 12 for path in files_of(directory, ".timeindex"))
    assert entries > 30 and times > 10
    assert len(re.findall(r"^offset: \d+ position: \d+$", printed, re.MULTILINE)) == entries
    assert len(re.findall(r"^timestamp: \d+ offset: \d+$", printed, re.MULTILINE)) == times


def test_transaction_index_and_snapshot(partition: tuple[Path, list[bytes]]) -> None:
    directory, _ = partition
    output = clean_output(files_of(directory, ".txnindex") + files_of(directory, ".snapshot"))
    expected = (
        "version: 0 producerId: 7000 firstOffset: 40 lastOffset: 49 lastStableOffset: 50\n",
        "producerId: 7000 producerEpoch: 2 coordinatorEpoch: 3 ",
        "firstSequence: 0 lastSequence: 9 lastOffset: 49 offsetDelta: 9",
        "producerId: 7001 producerEpoch: 0 coordinatorEpoch: -1 "
        "currentTxnFirstOffset: OptionalLong[26]",
        "producerId: 7002 producerEpoch: 0 coordinatorEpoch: 1 "
        "currentTxnFirstOffset: OptionalLong.empty",
    )
    assert [text for text in expected if text not in output] == []


def test_a_log_that_was_not_closed(tmp_path: Path) -> None:
    """Behind the last batch of an open log lie preallocated zeros. Kafka's broker cuts them when it
    recovers; the tool prints every record and then says that zeros are no batch. Opening and
    closing the log here trims them."""
    live, copy = tmp_path / "live-0", tmp_path / "copy-0"
    with kcore.Log.open(live, segment_bytes=1 << 20, index_interval_bytes=300) as log:
        for number in range(20):
            log.append(kcore.encode(values_of(number), timestamps=[START_MS + number] * 8))
        shutil.copytree(live, copy)  # as a kill would leave it
    done = dump(files_of(copy, ".log"), "--deep-iteration")
    assert done.stdout.count("| offset:") == 160
    assert "Found record size 0 smaller than minimum record overhead (14)" in done.stderr
    with kcore.Log.open(copy, index_interval_bytes=300) as log:
        assert log.next_offset == 160
    output = clean_output(files_of(copy, ".log"), "--deep-iteration")
    assert output.count("| offset:") == 160
    indexes = files_of(copy, ".index") + files_of(copy, ".timeindex")
    assert "offset: 151 position:" in clean_output(indexes)


def _break_index_offset(path: Path) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(">i", data, 0, struct.unpack_from(">i", data)[0] - 1)
    path.write_bytes(bytes(data))


def _break_timestamp(path: Path) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(">q", data, 0, START_MS - 1)
    path.write_bytes(bytes(data))


def _break_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(bytes(data))


def _sabotages() -> Iterator[tuple[str, object, str]]:
    yield ".index", _break_index_offset, "Mismatches in :"
    yield ".timeindex", _break_timestamp, "Found timestamp mismatch in :"
    yield ".snapshot", _break_byte, "Snapshot is corrupt"
    yield ".log", _break_byte, "isvalid: false"


def test_it_would_have_complained(partition: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    """Each rule broken once, in one run of the tool; ours sees the same."""
    broken = tmp_path / "orders-0"
    shutil.copytree(partition[0], broken)
    files: list[Path] = []
    for suffix, sabotage, _ in _sabotages():
        # Indexes of the second segment, so that its broken log does not stop their check.
        path = files_of(broken, suffix)[-1 if suffix in (".snapshot", ".log") else 1]
        assert callable(sabotage)
        sabotage(path)
        files.append(path)
    done = dump(files)
    for _, _, words in _sabotages():
        assert words in done.stderr + done.stdout
    found = {item.path for item in verify_dir(broken).findings.items if item.level == "error"}
    assert {str(path) for path in files} <= found
