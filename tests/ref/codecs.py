"""Framings of the codecs, on the plainest library calls. Snappy's blocks are written here."""

import gzip
import struct

import lz4.frame
import zstandard

XERIAL = struct.pack(">8sii", b"\x82SNAPPY\x00", 1, 1)


def inflate(codec: int, data: bytes) -> bytes:
    if codec == 1:
        return gzip.decompress(data)
    if codec == 2:
        return _xerial(data) if data[:8] == XERIAL[:8] else snappy_block(data)
    if codec == 3:
        return bytes(lz4.frame.decompress(data))
    if codec == 4:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def _xerial(data: bytes) -> bytes:
    out = b""
    pos = 16
    while pos < len(data):
        (size,) = struct.unpack_from(">i", data, pos)
        out += snappy_block(data[pos + 4 : pos + 4 + size])
        pos += 4 + size
    return out


def snappy_block(data: bytes) -> bytes:
    """A raw snappy block: its inflated size, then literals and copies."""
    size = pos = shift = 0
    while True:
        byte = data[pos]
        size |= (byte & 0x7F) << shift
        pos, shift = pos + 1, shift + 7
        if byte < 0x80:
            break
    out = bytearray()
    while pos < len(data):
        tag = data[pos]
        pos += 1
        if tag & 3 == 0:  # literal
            length = (tag >> 2) + 1
            if length > 60:
                more = length - 60
                length = int.from_bytes(data[pos : pos + more], "little") + 1
                pos += more
            out += data[pos : pos + length]
            pos += length
            continue
        if tag & 3 == 1:
            length, back = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[pos]
            pos += 1
        else:
            width = 2 if tag & 3 == 2 else 4
            length, back = (tag >> 2) + 1, int.from_bytes(data[pos : pos + width], "little")
            pos += width
        for _ in range(length):
            out.append(out[-back])
    if len(out) != size:
        raise ValueError(f"snappy block promised {size} bytes and holds {len(out)}")
    return bytes(out)


def snappy_literals(data: bytes) -> bytes:
    """A raw snappy block without a single copy: what a lazy compressor may write."""
    out = bytearray()
    size = len(data)
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    for pos in range(0, len(data), 60):
        piece = data[pos : pos + 60]
        out.append((len(piece) - 1) << 2)
        out += piece
    return bytes(out)
