"""S02 and S03. Goal: damage in the middle costs exactly the damaged batch, whoever finds it, and
no index, however wrong, changes an answer.

Method: a log of five segments; one batch is spoiled in every class of its bytes, larger things are
deleted, swapped, zeroed; indexes are removed, cut, extended, garbled. The undamaged log is the
reference: every record outside the spoiled place must still be served, nothing else ever.
"""

from __future__ import annotations

import random
import struct
from itertools import pairwise
from typing import Any

import pytest

import kcore
from kcore import Log, MemoryOps
from tests.native.storage_kit import batch, headers

DIRECTORY = "/m/t-0"
SETTINGS: dict[str, Any] = {"segment_bytes": 4096, "index_interval_bytes": 300}
BATCHES = 60


def build() -> tuple[dict[str, bytes], dict[int, bytes]]:
    """The files of a closed log, and its batches by base offset."""
    ops = MemoryOps()
    batches = {}
    with Log.open(DIRECTORY, ops=ops, **SETTINGS) as log:
        for i in range(BATCHES):
            data = batch(3, 80 + i % 5, timestamp=1000 + 7 * i, fill=bytes([65 + i % 26]))
            base_offset = log.append(data).base_offset
            batches[base_offset] = bytes(data)  # as the log has stamped it
    return {name: ops.read(f"{DIRECTORY}/{name}") for name in ops.list(DIRECTORY)}, batches


FILES, BATCH_AT = build()
LOGS = sorted(name for name in FILES if name.endswith(".log"))


def opened(files: dict[str, bytes], **settings: Any) -> tuple[Log, MemoryOps]:
    ops = MemoryOps()
    for name, content in files.items():
        ops.write(f"{DIRECTORY}/{name}", content)
    return Log.open(DIRECTORY, ops=ops, **SETTINGS, **settings), ops


def served(log: Log) -> tuple[dict[int, bytes], list[tuple[int, int]]]:
    """Every batch the log serves, by base offset, and the ranges it refuses."""
    batches, refused = {}, []
    offset = log.log_start_offset
    while offset < log.next_offset:
        try:
            span = log.read(offset, 1500)
        except kcore.DamagedRange as error:
            assert error.first_offset <= offset < error.next_offset
            refused.append((error.first_offset, error.next_offset))
            offset = error.next_offset
            continue
        assert span is not None
        data = bytes(span)
        for (base, _, pos), (_, _, end) in zip(
            headers(data), [*headers(data)[1:], (0, 0, len(data))], strict=True
        ):
            batches[base] = data[pos:end]
        offset = span.next_offset
    return batches, refused


def check(files: dict[str, bytes], lost: set[int], **settings: Any) -> Log:
    """All batches but `lost` are served as they were; opening again changes nothing."""
    log, ops = opened(files, **settings)
    batches, refused = served(log)
    for base, data in BATCH_AT.items():
        if base not in lost:
            assert batches.get(base) == data, base
    assert not lost.intersection(batches)
    assert set(batches) <= set(BATCH_AT)
    for base in lost:
        assert any(first <= base < end for first, end in refused)
    assert log.next_offset == 3 * BATCHES
    assert [(d.first_offset, d.next_offset) for d in log.damaged] == refused
    # Damaged bytes stay where they are.
    for name in LOGS:
        assert ops.read(f"{DIRECTORY}/{name}").rstrip(b"\0") == files[name].rstrip(b"\0")
    result = log.append(batch(1))
    assert result.base_offset == 3 * BATCHES
    log.close()
    for clean in (False, True):
        again = Log.open(DIRECTORY, ops=ops, clean=clean, **SETTINGS)
        batches_again, refused_again = served(again)
        del batches_again[3 * BATCHES]
        assert (batches_again, refused_again) == (batches, refused)
        again.close()
    return log


HEADER_BYTES = {
    "base offset": 7,
    "high base offset": 1,
    "length": 11,
    "high length": 8,
    "magic": 16,
    "crc": 18,
    "attributes": 22,
    "last offset delta": 26,
    "base timestamp": 34,
    "producer id": 45,
    "count": 60,
    "body": 80,
    "last byte": -1,
}


@pytest.mark.parametrize("recovery_point", [0, 3 * BATCHES], ids=["scanned", "trusted"])
@pytest.mark.parametrize("where", HEADER_BYTES)
@pytest.mark.parametrize("segment", [0, 2])
def test_a_flipped_bit_costs_one_batch(segment: int, where: str, recovery_point: int) -> None:
    name = LOGS[segment]
    content = FILES[name]
    entries = headers(content)
    for k in (0, len(entries) // 2):
        base, _, pos = entries[k]
        size = entries[k + 1][2] - pos
        at = pos + (HEADER_BYTES[where] if HEADER_BYTES[where] >= 0 else size - 1)
        for bit in (0, 6):
            spoiled = bytearray(content)
            spoiled[at] ^= 1 << bit
            check({**FILES, name: bytes(spoiled)}, {base}, recovery_point=recovery_point)


@pytest.mark.parametrize("recovery_point", [0, 3 * BATCHES], ids=["scanned", "trusted"])
@pytest.mark.parametrize("how", ["zeros", "noise", "swap", "removed"])
def test_larger_damage_costs_what_it_touches(how: str, recovery_point: int) -> None:
    name = LOGS[1]
    content = FILES[name]
    entries = headers(content)
    start, size = entries[3][2] + 20, 700
    if how == "zeros":
        spoiled = content[:start] + bytes(size) + content[start + size :]
    elif how == "noise":
        junk = random.Random(1).randbytes(size)
        spoiled = content[:start] + junk + content[start + size :]
    elif how == "swap":
        a, b = content[start : start + 512], content[start + 1024 : start + 1536]
        spoiled = content[:start] + b + content[start + 512 : start + 1024] + a
        spoiled += content[start + 1536 :]
        size = 1536
    else:
        spoiled = content[:start] + content[start + size :]
    ends = [pos for _, _, pos in entries[1:]] + [len(content)]
    lost = {
        base
        for (base, _, pos), end in zip(entries, ends, strict=True)
        if pos < start + size and end > start
    }
    if how == "swap":  # a batch wholly between the two places is whole
        lost = {b for b in lost if BATCH_AT[b] not in spoiled}
    check({**FILES, name: spoiled}, lost, recovery_point=recovery_point)


def test_two_damaged_places_are_two_ranges() -> None:
    name = LOGS[1]
    entries = headers(FILES[name])
    spoiled = bytearray(FILES[name])
    for k in (2, 4):
        spoiled[entries[k][2] + 70] ^= 1
    log = check({**FILES, name: bytes(spoiled)}, {entries[2][0], entries[4][0]})
    assert len(log.damaged) == 2


def test_a_sealed_segment_that_lost_its_end() -> None:
    name = LOGS[1]
    entries = headers(FILES[name])
    cut = entries[-2][2] + 30
    check({**FILES, name: FILES[name][:cut]}, {entries[-2][0], entries[-1][0]})


def test_zeros_at_the_end_of_a_sealed_segment_are_only_space() -> None:
    """A power cut after a roll may lose the trim but not the data."""
    log, _ = opened({**FILES, LOGS[1]: FILES[LOGS[1]] + bytes(8192)})
    assert log.damaged == [] and log.recovery.zero_bytes_cut == 8192
    assert served(log)[0] == BATCH_AT


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_a_cut_goes_through_damage(offset: int) -> None:
    """An empty active segment behind one whose bytes never arrived: all of it is damage."""
    ops = MemoryOps()
    ops.write(f"{DIRECTORY}/{0:020d}.log", bytes(4096))
    ops.write(f"{DIRECTORY}/{2:020d}.log", b"")
    log = Log.open(DIRECTORY, ops=ops)
    assert [(d.first_offset, d.next_offset) for d in log.damaged] == [(0, 2)]
    log.truncate(offset)
    assert log.next_offset == (2 if offset == 2 else 0)
    assert len(log.damaged) == (1 if offset == 2 else 0)
    assert log.append(batch(1)).base_offset == log.next_offset - 1
    assert log.read(log.next_offset - 1, 1).size == len(batch(1))


def test_a_lost_damage_list_means_everything_is_scanned() -> None:
    spoiled = bytearray(FILES[LOGS[1]])
    spoiled[100] ^= 1
    log, ops = opened({**FILES, LOGS[1]: bytes(spoiled)})
    damaged = log.damaged
    log.close()
    ops.write(f"{DIRECTORY}/damaged-ranges", b"0\n7\nnonsense\n")
    again = Log.open(DIRECTORY, ops=ops, clean=True, **SETTINGS)
    assert again.damaged == damaged and not again.recovery.clean


def misaligned(content: bytes) -> bytes:
    """Every entry gets the target of the one after it: in order, and pointing at real batches."""
    form = ">qi" if content[:4] == bytes(4) else ">ii"  # times here are below 2^32
    entries = list(struct.iter_unpack(form, content)) if content else []
    return b"".join(struct.pack(form, a[0], b[1]) for a, b in pairwise(entries))


def garbled(content: bytes, how: str) -> bytes | None:
    rng = random.Random(len(content))
    if how == "removed":
        return None
    return {
        "empty": b"",
        "short": content[: len(content) // 3],
        "odd": content + b"\1",
        "half entry": content[:-3],
        "noise": rng.randbytes(len(content)),
        "zeros": bytes(len(content)),
        "preallocated": content + bytes(4800),
        "longer": content + struct.pack(">iiii", 1 << 20, 1 << 20, 1 << 21, 1 << 21),
        "shifted": content[: len(content) // 2]
        + bytes(b ^ (1 if i % 4 == 3 else 0) for i, b in enumerate(content[len(content) // 2 :])),
        "reversed": content[::-1],
        "misaligned": misaligned(content),
    }[how]


CHAOS = ["removed", "empty", "short", "odd", "half entry", "noise", "zeros", "preallocated"]
CHAOS += ["longer", "shifted", "reversed", "misaligned"]


@pytest.mark.parametrize("how", CHAOS)
@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
@pytest.mark.parametrize("mode", ["unclean", "trusted", "clean"])
def test_index_chaos_changes_no_answer(suffix: str, how: str, mode: str) -> None:
    files: dict[str, bytes] = {}
    for name, content in FILES.items():
        changed = garbled(content, how) if name.endswith(suffix) else content
        if changed is not None:
            files[name] = changed
    settings: dict[str, Any] = {
        "unclean": {},
        "trusted": {"recovery_point": 3 * BATCHES},
        "clean": {"clean": True},
    }[mode]
    # Reads and lookups by time each on a log of their own: either would repair it for the other.
    log, _ = opened(files, **settings)
    for offset in range(0, 3 * BATCHES, 5):
        span = log.read(offset, 1)
        assert span.base_offset == offset - offset % 3
    log.close()
    log, _ = opened(files, **settings)
    assert log.damaged == []
    times = {base: 1000 + 7 * (base // 3) for base in BATCH_AT}
    for target in range(990, 1440, 9):
        expected = next(
            ((t + i, base + i) for base, t in times.items() for i in range(3) if t + i >= target),
            None,
        )
        assert log.offset_for_timestamp(target) == expected, target
    assert served(log) == (BATCH_AT, [])
    assert log.segments()[0].max_timestamp == 1000 + 7 * (len(headers(FILES[LOGS[0]])) - 1) + 2
    assert log.damaged == []
    log.close()
