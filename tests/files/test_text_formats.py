"""Checkpoints, metadata files and the clean marker: bytes exactly as Kafka writes them, and every
way to be wrong is an IndexCorrupt with a place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcore.errors import IndexCorrupt
from kcore.files import (
    clean_marker,
    damaged_ranges,
    epoch_checkpoint,
    meta_properties,
    offset_checkpoint,
    partition_metadata,
    topic_ids,
)
from kcore.files.epoch_checkpoint import EpochEntry
from kcore.files.meta_properties import MetaProperties

ID = bytes(range(16))
ID_TEXT = "AAECAwQFBgcICQoLDA0ODw"
DECODERS: list[Callable[..., object]] = [
    clean_marker.decode_clean_marker,
    damaged_ranges.decode_damaged_ranges,
    epoch_checkpoint.decode_epoch_checkpoint,
    meta_properties.decode_meta_properties,
    offset_checkpoint.decode_offset_checkpoint,
    partition_metadata.decode_partition_metadata,
]


def test_epoch_checkpoint_bytes() -> None:
    entries = [EpochEntry(0, 0), EpochEntry(3, 120)]
    data = epoch_checkpoint.encode_epoch_checkpoint(entries)
    assert data == b"0\n2\n0 0\n3 120\n"
    assert epoch_checkpoint.decode_epoch_checkpoint(data) == entries


def test_offset_checkpoint_bytes() -> None:
    offsets = {("b", 1): 7, ("a.x_-", 10): (1 << 63) - 1, ("a.x_-", 2): 0}
    data = offset_checkpoint.encode_offset_checkpoint(offsets)
    assert data == b"0\n3\na.x_- 2 0\na.x_- 10 9223372036854775807\nb 1 7\n"
    assert offset_checkpoint.decode_offset_checkpoint(data) == offsets


def test_an_empty_checkpoint_is_an_empty_list() -> None:
    """Kafka creates its checkpoint files empty."""
    assert epoch_checkpoint.decode_epoch_checkpoint(b"") == []
    assert offset_checkpoint.decode_offset_checkpoint(b"") == {}


@pytest.mark.parametrize(
    ("data", "pos", "words"),
    [
        (b"1\n0\n", 0, "unknown version"),
        (b"0\n", 2, "count is missing"),
        (b"0\n2\n0 0\n", 2, "count is wrong"),
        (b"0\n1\n0 0\n1 1\n", 2, "count is wrong"),
        (b"0\n-1\n", 2, "bad number"),
        (b"0\n99999999999999999999\n", 2, "bad number"),
        (b"0\n1\n0 0 0\n", 4, "malformed line"),
        (b"0\n1\n0\n", 4, "malformed line"),
        (b"0\n1\n0 +1\n", 4, "bad number"),
        (b"0\n1\n0 1_0\n", 4, "bad number"),
        (b"0\n1\n0 9223372036854775808\n", 4, "bad number"),
        (b"0\n2\n1 0\n1 5\n", 8, "epochs do not rise"),
        (b"0\n2\n1 5\n2 5\n", 8, "start offsets do not rise"),
        (b"0\n1\n0 \xff\n", 6, "not text"),
    ],
)
def test_epoch_checkpoint_damage(data: bytes, pos: int, words: str) -> None:
    with pytest.raises(IndexCorrupt, match=words) as caught:
        epoch_checkpoint.decode_epoch_checkpoint(data, path="here")
    assert (caught.value.path, caught.value.pos) == ("here", pos)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"../etc 0 1", "bad topic name"),
        (b".. 0 1", "bad topic name"),
        (b"t -1 1", "bad number"),
        (b"t 2147483648 1", "bad number"),
        (b"t 0 -1", "bad number"),
        (b"t 0 1 2", "malformed line"),
    ],
)
def test_offset_checkpoint_damage(line: bytes, words: str) -> None:
    with pytest.raises(IndexCorrupt, match=words):
        offset_checkpoint.decode_offset_checkpoint(b"0\n1\n" + line + b"\n")
    with pytest.raises(IndexCorrupt, match="appears twice"):
        offset_checkpoint.decode_offset_checkpoint(b"0\n2\nt 0 1\nt 0 2\n")


def test_damaged_ranges() -> None:
    data = b"0\n1\n100 61 200 103 105\n"
    assert damaged_ranges.decode_damaged_ranges(data) == [(100, 61, 200, 103, 105)]
    for bad in (b"0\n1\n100 61 60 1 2\n", b"0\n1\n100 61 62 2 1\n"):
        with pytest.raises(IndexCorrupt, match="ends before it begins"):
            damaged_ranges.decode_damaged_ranges(bad)


def test_partition_metadata_bytes() -> None:
    data = partition_metadata.encode_partition_metadata(ID)
    assert data == b"version: 0\ntopic_id: " + ID_TEXT.encode()
    assert partition_metadata.decode_partition_metadata(data) == (ID, 0)
    assert partition_metadata.decode_partition_metadata(data + b"\nmore: 1\n") == (ID, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "malformed line"),
        (b"version: 0", "malformed line"),
        (b"version: x\ntopic_id: " + ID_TEXT.encode(), "bad version"),
        (b"version: 0\ntopic_id: short", "bad topic id"),
        (b"version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODx", "bad topic id"),
        (b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA", "topic id is zero"),
        (b"topic_id: AA\nversion: 0", "malformed line"),
    ],
)
def test_partition_metadata_damage(data: bytes, words: str) -> None:
    with pytest.raises(IndexCorrupt, match=words):
        partition_metadata.decode_partition_metadata(data)


@given(st.binary(min_size=16, max_size=16))
def test_topic_ids_have_one_text_each(raw: bytes) -> None:
    assert topic_ids.decode_id(topic_ids.encode_id(raw)) == raw


def test_meta_properties_bytes() -> None:
    meta = MetaProperties("c:1", 5, ID)
    data = meta_properties.encode_meta_properties(meta)
    assert data == f"cluster.id=c\\:1\ndirectory.id={ID_TEXT}\nnode.id=5\nversion=1\n".encode()
    assert meta_properties.decode_meta_properties(data) == meta


def test_meta_properties_as_java_writes_them() -> None:
    data = b"#\n#Sun Nov 22 22:00:00 UTC 2026\ncluster.id=abc\nversion=1\nnode.id=1\n"
    assert meta_properties.decode_meta_properties(data) == MetaProperties("abc", 1)
    old = b"! zookeeper days\nbroker.id : 7\n  cluster.id \\\n   x\\u0041\\=y\r\n"
    assert meta_properties.decode_meta_properties(old) == MetaProperties("xA=y", 7, None, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version=2\n", "unknown version"),
        (b"version=1\ncluster.id=x\n", "node.id is missing"),
        (b"version=1\nnode.id=1\n", "cluster.id is missing"),
        (b"version=1\nnode.id=-1\ncluster.id=x\n", "bad node.id"),
        (b"version=1\nnode.id=99999999999\ncluster.id=x\n", "bad node.id"),
        (b"version=1\nnode.id=1\ncluster.id=x\ndirectory.id=?\n", "bad directory.id"),
        (b"a=\\u00g0\n", "bad .u escape"),
        (b"a=b\\", "last line is continued"),
    ],
)
def test_meta_properties_damage(data: bytes, words: str) -> None:
    with pytest.raises(IndexCorrupt, match=words):
        meta_properties.decode_meta_properties(data)


def test_clean_marker_bytes(tmp_path: Path) -> None:
    data = clean_marker.encode_clean_marker(12)
    assert data == b'{"version":0,"brokerEpoch":12}'
    assert clean_marker.decode_clean_marker(data) == (12, 0)
    assert clean_marker.decode_clean_marker(b"") == (-1, 0)
    assert clean_marker.decode_clean_marker(b'{"version":0,"brokerEpoch":null}') == (-1, 0)
    for bad in (b"{", b"[]", b'{"brokerEpoch":true}', b'{"brokerEpoch":1e3}', b"[" * 4000):
        with pytest.raises(IndexCorrupt, match="clean marker"):
            clean_marker.decode_clean_marker(bad)


def test_a_clean_marker_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / ".kafka_cleanshutdown"
    assert clean_marker.take_clean_marker(path) is False
    clean_marker.store_clean_marker(path, 3)
    assert clean_marker.load_clean_marker(path) == (3, 0)
    assert clean_marker.take_clean_marker(path) is True
    assert clean_marker.take_clean_marker(path) is False
    path.write_bytes(b"garbage")
    assert clean_marker.take_clean_marker(path) is False
    assert not path.exists()


def test_load_and_store(tmp_path: Path) -> None:
    epochs, offsets = [EpochEntry(0, 0)], {("t", 0): 5}
    path = tmp_path / "file"
    assert epoch_checkpoint.load_epoch_checkpoint(path) == []
    assert offset_checkpoint.load_offset_checkpoint(path) == {}
    epoch_checkpoint.store_epoch_checkpoint(path, epochs)
    assert epoch_checkpoint.load_epoch_checkpoint(path) == epochs
    offset_checkpoint.store_offset_checkpoint(path, offsets)
    assert offset_checkpoint.load_offset_checkpoint(path) == offsets
    partition_metadata.store_partition_metadata(path, ID)
    assert partition_metadata.load_partition_metadata(path).topic_id == ID
    meta_properties.store_meta_properties(path, MetaProperties("c", 1))
    assert meta_properties.load_meta_properties(path) == MetaProperties("c", 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("decode", DECODERS)
@given(data=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(decode: Callable[..., object], data: bytes) -> None:
    try:
        decode(data)
    except IndexCorrupt as error:
        assert error.pos is not None
