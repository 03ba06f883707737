"""S01. Goal: whatever is left of the last write, the log opens with all batches before it, cut
clean, and goes on at the right offset.

Method: a log of three batches per codec; the last batch is cut at every byte, and overwritten from
every byte on with zeros, ones, noise and old data. The reference is the list of whole batches.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import kcore
from kcore import Log, MemoryOps
from tests.native.storage_kit import batch, headers

DIRECTORY = "/m/t-0"
NAME = f"{DIRECTORY}/{0:020d}.log"


def three_batches(codec: str) -> bytes:
    values = [bytes([i]) * (20 + i) for i in range(8)]
    ops = MemoryOps()
    with Log.open(DIRECTORY, ops=ops) as log:
        for k in range(3):
            log.append(kcore.encode(values, codec=codec, timestamps=[1000 + k] * 8))
        content = log.read(0, 1 << 20)
        return bytes(content)


def reopened(image: bytes, **settings: int) -> tuple[Log, MemoryOps]:
    ops = MemoryOps()
    ops.write(NAME, image)
    return Log.open(DIRECTORY, ops=ops, **settings), ops


def check(image: bytes, content: bytes, whole: int, torn_bytes: int | None = None) -> None:
    """`image` must open to the first `whole` batches of `content`."""
    log, ops = reopened(image)
    ends = [pos for _, _, pos in headers(content)] + [len(content)]
    kept = content[: ends[whole]]
    assert ops.read(NAME) == kept
    assert log.next_offset == 8 * whole and log.damaged == []
    if torn_bytes is not None:
        assert log.recovery.torn_bytes_cut == torn_bytes
    result = log.append(batch(2, 30))
    assert result.base_offset == 8 * whole
    log.close()
    again = Log.open(DIRECTORY, ops=ops)
    assert again.recovery.torn_bytes_cut == 0 and again.next_offset == 8 * whole + 2
    assert bytes(again.read(0, 1 << 20))[: len(kept)] == kept


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_cut_at_every_byte(codec: str) -> None:
    content = three_batches(codec)
    last = headers(content)[2][2]
    for cut in range(last, len(content)):
        check(content[:cut], content, 2)
        zeros_behind = content[:cut] + bytes(4096)
        # A batch may itself end in zeros: then nothing is missing.
        check(zeros_behind, content, 3 if zeros_behind.startswith(content) else 2)
    check(content + bytes(4096), content, 3, 0)


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("with_what", ["zeros", "ones", "noise", "old data"])
def test_overwritten_from_every_byte(codec: str, with_what: str) -> None:
    content = three_batches(codec)
    last = headers(content)[2][2]
    rng = random.Random(7)
    for start in range(last, len(content) - 1):
        size = len(content) - start
        junk = {
            "zeros": bytes(size),
            "ones": b"\xff" * size,
            "noise": rng.randbytes(size),
            "old data": (content[: last // 2] * 3)[:size],
        }[with_what]
        image = content[:start] + junk
        whole = 3 if image == content else 2
        if (
            image[last : last + 12] == content[last : last + 12]
            and image[21 + last :] == (content[21 + last :])
        ):
            continue  # only the leader epoch or nothing differs: outside the CRC
        check(image, content, whole)


def test_old_batches_behind_the_end_do_not_come_back() -> None:
    content = three_batches("none")
    _, middle, last = (pos for _, _, pos in headers(content))
    # An unfinished third batch, with two whole older ones where its rest should be.
    image = content[: last + 30] + content[:middle] + content[middle:last]
    check(image, content, 2)


def test_a_torn_batch_that_carries_batches_in_a_value_is_cut_whole() -> None:
    inner = bytes(batch(1, 40, base_offset=900)) + b"rest of the record"
    ops = MemoryOps()
    with Log.open(DIRECTORY, ops=ops) as log:
        log.append(kcore.encode([b"a"]))
        log.append(kcore.encode([inner, b"z" * 100]))
    content = ops.read(NAME)
    log, _ = reopened(content[:-40])
    assert (log.next_offset, log.damaged) == (1, [])


def test_a_log_cut_to_its_start_inside_a_batch_lost_nothing() -> None:
    ops = MemoryOps()
    log = Log.open(DIRECTORY, ops=ops)
    log.append(batch(4))
    log.truncate_prefix(2)
    log.truncate(2)
    assert (log.log_start_offset, log.next_offset) == (2, 2)
    again = Log.open(DIRECTORY, ops=ops, recovery_point=2, log_start_offset=2)
    assert (again.log_start_offset, again.next_offset, again.damaged) == (2, 2, [])
    assert again.append(batch(1)).base_offset == 2


def test_nothing_below_the_recovery_point_is_cut(tmp_path: Path) -> None:
    content = three_batches("none")
    last = headers(content)[2][2]
    ops = MemoryOps()
    ops.write(NAME, content[: last + 40])
    log = Log.open(DIRECTORY, ops=ops, recovery_point=24)
    (span,) = log.damaged
    assert (span.first_offset, span.next_offset) == (16, 24)
    assert ops.read(NAME) == content[: last + 40].rstrip(b"\0")
    assert log.append(batch(1)).base_offset == 24  # those offsets are never given out again
    with pytest.raises(kcore.DamagedRange) as caught:
        log.read(20, 1)
    assert (caught.value.first_offset, caught.value.next_offset) == (16, 24)
    assert log.read(8, 1 << 20).next_offset == 16 and log.read(24, 1).base_offset == 24
    log.close()
    again = Log.open(DIRECTORY, ops=ops, recovery_point=25)
    assert again.damaged == [span] and again.next_offset == 25
