"""The codecs: round trips, framings of other clients, budgets that hold, damage that is named."""

from __future__ import annotations

import gzip
import os
import random
import struct
import subprocess
import sys
import zlib
from contextlib import suppress

import cramjam
import lz4.frame
import pytest
import zstandard

from kcore import CorruptBatch, LimitExceeded, UnsupportedCodec, limits
from kcore._native import codecs
from tests.ref import codecs as reference
from tests.support.memory import SANITIZED, peak_memory

PACKED = ["gzip", "snappy", "lz4", "zstd"]
RANDOM = random.Random(3)
TEXT = b"".join(RANDOM.choice([b"alpha ", b"beta ", b"gamma "]) * 3 for _ in range(20_000))
NOISE = RANDOM.randbytes(100_000)
INPUTS = {"empty": b"", "byte": b"a", "text": TEXT, "noise": NOISE, "both": TEXT + NOISE}


@pytest.mark.parametrize("codec", ["none", *PACKED])
@pytest.mark.parametrize("name", INPUTS)
def test_round_trip(codec: str, name: str) -> None:
    data = INPUTS[name]
    packed = codecs.compress(codec, data)
    assert codecs.decompress(codec, packed) == data
    assert codecs.decompress(codec, packed, budget=len(data)) == data
    assert codecs.decompress(codec, memoryview(bytearray(packed))) == data
    assert reference.inflate(codecs.codec_id_of(codec), packed) == data


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_levels(codec: str) -> None:
    low, high = (codecs.compress(codec, TEXT, level) for level in (1, 9))
    assert len(high) < len(low)
    assert codecs.decompress(codec, high) == codecs.decompress(codec, low) == TEXT


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_concatenated_frames(codec: str) -> None:
    packed = codecs.compress(codec, TEXT) + codecs.compress(codec, NOISE)
    assert codecs.decompress(codec, packed) == TEXT + NOISE


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_number_of_frames_is_bounded(codec: str) -> None:
    """Each frame costs a copy of the rest: a megabyte of tiny frames would cost minutes."""
    with pytest.raises(CorruptBatch, match="more than 256 frames"):
        codecs.decompress(codec, codecs.compress(codec, b"") * 300)


def test_snappy_raw_and_xerial() -> None:
    raw = bytes(cramjam.snappy.compress_raw(TEXT))
    assert codecs.decompress("snappy", raw) == TEXT
    assert codecs.decompress("snappy", reference.snappy_literals(NOISE)) == NOISE
    framed = codecs.compress("snappy", TEXT)
    assert framed.startswith(reference.XERIAL)
    (first,) = struct.unpack_from(">i", framed, 16)
    assert reference.snappy_block(framed[20 : 20 + first]) == TEXT[: 32 * 1024]


def test_lz4_as_the_java_client_needs_it() -> None:
    """Independent blocks; no content size and no checksum, as it writes itself."""
    info = lz4.frame.get_frame_info(codecs.compress("lz4", TEXT))
    assert not info["block_linked"]
    assert not info["content_checksum"]
    assert info["content_size"] == 0
    linked = lz4.frame.compress(TEXT, block_linked=True, content_checksum=True)
    assert codecs.decompress("lz4", linked) == TEXT


def test_zstd_without_content_size() -> None:
    """The streaming writers of Java and others do not know the size when they begin."""
    writer = zstandard.ZstdCompressor().compressobj()
    packed = writer.compress(TEXT) + writer.flush()
    assert codecs.decompress("zstd", packed) == TEXT
    assert codecs.decompress("zstd", packed + packed) == TEXT + TEXT


def test_zstd_window_is_bounded() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = writer.compress(TEXT) + writer.flush()
    with pytest.raises(CorruptBatch, match="zstd"):
        codecs.decompress("zstd", packed)


@pytest.mark.parametrize("codec", PACKED)
@pytest.mark.parametrize("name", ["empty", "byte", "text"])
def test_every_truncation_is_refused(codec: str, name: str) -> None:
    packed = codecs.compress(codec, INPUTS[name][:5000])
    # The xerial framing has no end mark: a cut between two blocks cannot be seen.
    whole = {len(reference.XERIAL)} if codec == "snappy" else set()
    for size in set(range(len(packed))) - whole:
        with pytest.raises(CorruptBatch):
            codecs.decompress(codec, packed[:size])


@pytest.mark.parametrize("codec", PACKED)
def test_bytes_after_the_end_are_refused(codec: str) -> None:
    with pytest.raises(CorruptBatch):
        codecs.decompress(codec, codecs.compress(codec, TEXT) + b"\x01\x02\x03")


@pytest.mark.parametrize("codec", PACKED)
def test_mutations_are_refused_or_harmless(codec: str) -> None:
    packed = codecs.compress(codec, TEXT[:3000])
    source = random.Random(codec)
    for _ in range(400):
        damaged = bytearray(packed)
        for _ in range(source.randrange(1, 4)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        with suppress(CorruptBatch, LimitExceeded):
            assert len(codecs.decompress(codec, damaged)) <= limits.INFLATED_BYTES_MAX


def _bomb(codec: str, size: int) -> bytes:
    zeros = bytes(size)
    if codec == "zstd-stream":
        writer = zstandard.ZstdCompressor().compressobj()
        return writer.compress(zeros) + writer.flush()
    if codec == "snappy-raw":
        return bytes(cramjam.snappy.compress_raw(zeros))
    return codecs.compress(codec, zeros)


@pytest.mark.parametrize("codec", [*PACKED, "zstd-stream", "snappy-raw"])
def test_one_byte_over_budget(codec: str) -> None:
    packed = _bomb(codec, 1_000_001)
    name = codec.split("-")[0]
    assert len(codecs.decompress(name, packed, budget=1_000_001)) == 1_000_001
    with pytest.raises(LimitExceeded, match=f"inflates \\({name}\\) to more than its budget"):
        codecs.decompress(name, packed, budget=1_000_000)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("codec", [*PACKED, "zstd-stream", "snappy-raw"])
def test_bombs_stay_within_the_budget(codec: str) -> None:
    """64 MiB of zeros against a budget of 8 MiB: the process may not grow by much more."""
    packed = _bomb(codec, 64 << 20)
    with peak_memory() as peak, pytest.raises(LimitExceeded):
        codecs.decompress(codec.split("-")[0], packed, budget=8 << 20)
    assert peak.grown_bytes < 14 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.skipif(SANITIZED, reason="the sanitizer's memory never grows in place")
@pytest.mark.parametrize("codec", PACKED)
def test_a_large_batch_is_not_held_twice(codec: str) -> None:
    """What comes out in pieces grows in one place. In a process of its own: what this one has freed
    before decides whether malloc maps so much, or copies it within its heap first."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE, codec],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    grown_bytes, size = map(int, done.stdout.split())
    assert grown_bytes < size * 1.4


LARGE = """
import sys
import kcore
from tests.support.memory import peak_memory

size = 56 << 20
batch = kcore.encode([bytes(size)], codec=sys.argv[1])
with peak_memory() as peak:
    record = next(kcore.records(batch))
assert len(record.value) == size
print(peak.grown_bytes, size)
"""


def test_sizes_that_lie() -> None:
    """A promise of much from little is refused before memory is taken for it."""
    for promise in (b"\xff\xff\xff\xff\x07", b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x20"):
        with pytest.raises(CorruptBatch, match="cannot be true"):
            codecs.decompress("snappy", promise + b"\x00a")
    for length in (2**31 - 1, -1, -2, 3):
        framed = reference.XERIAL + struct.pack(">i", length) + b"\x00"
        with pytest.raises(CorruptBatch):
            codecs.decompress("snappy", framed)
    # A zstd frame header with a content size of 2^62, and one just above the budget.
    for size in (2**62, limits.INFLATED_BYTES_MAX + 1):
        frame = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + b"\x01\x00\x00"
        with pytest.raises(LimitExceeded):
            codecs.decompress("zstd", frame)


def test_budget_is_a_size_or_a_ratio() -> None:
    assert codecs.budget_for(10) == limits.INFLATED_BYTES_MAX
    assert codecs.budget_for(10**7) == 10**7 * limits.INFLATION_RATIO_MAX


def test_gzip_checks_its_sum() -> None:
    packed = bytearray(gzip.compress(TEXT, mtime=0))
    packed[-5] ^= 1
    with pytest.raises(CorruptBatch, match="gzip"):
        codecs.decompress("gzip", packed)
    with pytest.raises(CorruptBatch, match="gzip"):
        codecs.decompress("gzip", zlib.compress(TEXT))  # zlib wrapping is not gzip


def test_unknown_codec() -> None:
    with pytest.raises(UnsupportedCodec, match="none, gzip, snappy, lz4, zstd"):
        codecs.compress("brotli", b"")
