"""CRC-32C: every way this processor has gives the same sum as the crc32c package.

Lengths around every border of the ways (chains, lanes, strides, streaming stores), all alignments.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import crc32c as oracle
import pytest

from kcore._native import crc32c as native
from tests.ref.crc32c import crc32c as reference

LENGTHS = [
    *range(600),
    767,
    768,
    1023,
    1024,
    1025,
    8191,
    8192,
    3 * 4096 - 1,
    3 * 4096,
    3 * 4096 + 25,
    65_553,
    67_704,
    140_000,
]
STREAMED = [512 * 1024 - 1, 512 * 1024, 512 * 1024 + 4321]


@pytest.fixture(params=native.ways())
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.current_way()
    native.use_way(request.param)
    yield request.param
    native.use_way(before)


@pytest.fixture(scope="module")
def data() -> bytes:
    return random.Random(1).randbytes(STREAMED[-1] + 64)


def test_known_sums(way: str) -> None:
    assert native.crc32c(b"123456789") == 0xE3069283
    assert native.crc32c(b"") == 0
    assert native.crc32c(bytes(32)) == 0x8A9136AA
    assert native.crc32c(b"\xff" * 32) == 0x62A8AB43


def test_fastest_way_is_chosen() -> None:
    assert native.current_way() == native.ways()[-1]


def test_every_length_and_alignment(way: str, data: bytes) -> None:
    view = memoryview(data)
    for size in LENGTHS:
        shift = size % 64
        seed = (size * 2654435761) & 0xFFFFFFFF
        piece = view[shift : shift + size]
        assert native.crc32c(piece, seed) == oracle.crc32c(piece, seed), (way, size)


def test_continuing_is_one_sum(way: str, data: bytes) -> None:
    for cut in (0, 1, 7, 255, 256, 300, 4095):
        whole = native.crc32c(data[:4096])
        assert native.crc32c(data[cut:4096], native.crc32c(data[:cut])) == whole


def test_copy_and_sum(way: str, data: bytes) -> None:
    view = memoryview(data)
    for size in [*range(0, 600, 7), 767, 1024, 3 * 4096 + 25, *STREAMED]:
        for shift in (0, 1, 31):
            target = bytearray(size + shift + 8)
            crc = native.crc32c_into(memoryview(target)[shift:], view[3 : 3 + size], 77)
            assert crc == oracle.crc32c(view[3 : 3 + size], 77), (way, size)
            assert target[shift : shift + size] == data[3 : 3 + size]
            assert target[shift + size :] == bytes(8), "wrote past the end"
            assert target[:shift] == bytes(shift), "wrote before the start"


def test_reference_agrees(data: bytes) -> None:
    assert reference(data[:1000], 5) == oracle.crc32c(data[:1000], 5)


def test_copy_refuses_bad_targets() -> None:
    with pytest.raises(ValueError, match="target has 3 bytes, data 4"):
        native.crc32c_into(bytearray(3), b"abcd")
    area = memoryview(bytearray(10))
    with pytest.raises(ValueError, match="overlap"):
        native.crc32c_into(area[2:8], area[0:6])
    with pytest.raises(BufferError):
        native.crc32c_into(b"read only", b"abc")
    with pytest.raises(ValueError, match="has no way 'abacus'"):
        native.use_way("abacus")
