"""The four codecs of record batches, in and out, with a budget on what comes out.

The compressed bytes come from strangers: a megabyte of zstd may stand for 32 GiB. No decompressor
here is asked for more than the budget leaves, whatever the bytes promise; a promise of a size is
compared with the budget before memory is taken for it. The libraries are imported when first used.

Framings: gzip members; snappy as one raw block (librdkafka) or in the blocks of snappy-java
("xerial", which is what we write because every client reads it); lz4 frames with independent
blocks (the Java client reads no others); zstd frames. Members and frames may be concatenated.
"""

from cpython.buffer cimport PyBUF_READ
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int32_t, uint32_t

from kcore._native.batch import CODEC_NAMES
from kcore._native.cursor cimport Cursor, cursor_i32, cursor_over, cursor_skip
from kcore._native.layout cimport (
    CODEC_COUNT, CODEC_GZIP, CODEC_LZ4, CODEC_NONE, CODEC_SNAPPY, CODEC_ZSTD,
)
from kcore._native.varint cimport read_unsigned_varint

from kcore.errors import CoreError, CorruptBatch, LimitExceeded, UnsupportedCodec
from kcore.limits import INFLATED_BYTES_MAX, INFLATION_RATIO_MAX, ZSTD_WINDOW_BYTES_MAX

XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_HEADER = XERIAL_MAGIC + b"\x00\x00\x00\x01\x00\x00\x00\x01"  # version 1, compatible with 1

cdef enum:
    XERIAL_BLOCK_BYTES = 32 * 1024
    # A snappy element of three bytes copies at most 64: a claim beyond that ratio is a lie.
    SNAPPY_RATIO_MAX = 22
    # Four bytes of zstd are a block of at most 128 KiB: so much input can pass per output budget.
    ZSTD_BLOCK_BYTES_MAX = 128 * 1024
    ZSTD_BLOCK_BYTES_MIN = 4
    # How much a step takes at most: what it gives, the library may hold twice for a moment.
    PIECE_BYTES = 256 * 1024
    # Pieces of so many bytes together are joined at the end.
    GATHERED_BYTES_MAX = 8 * 1024 * 1024
    # Every frame costs a copy of what follows it; no client writes more than one.
    FRAMES_MAX = 256


# --------------------------------------------------------------------- for C callers

cdef object inflate(int codec_id, const uint8_t* p, int64_t size):
    if codec_id == CODEC_NONE:
        return PyMemoryView_FromMemory(<char*>p, size, PyBUF_READ)
    return _inflate(codec_id, PyMemoryView_FromMemory(<char*>p, size, PyBUF_READ), budget_for(size))


cdef object deflate(int codec_id, const uint8_t* p, int64_t size, object level):
    cdef object data = PyMemoryView_FromMemory(<char*>p, size, PyBUF_READ)
    if codec_id == CODEC_GZIP:
        return _deflate_gzip(data, level)
    if codec_id == CODEC_SNAPPY:
        return _deflate_snappy(data)
    if codec_id == CODEC_LZ4:
        return _deflate_lz4(data, level)
    if codec_id == CODEC_ZSTD:
        return _deflate_zstd(data, level)
    return bytes(data)


# --------------------------------------------------------------------- for Python

def codec_id_of(str name):
    """The id of a codec's name as it stands in the attributes. Raises UnsupportedCodec."""
    try:
        return CODEC_NAMES.index(name)
    except ValueError:
        names = ", ".join(CODEC_NAMES)
        raise UnsupportedCodec("unknown codec", expected=names, found=repr(name)) from None


def budget_for(size):
    """How many bytes may come out of `size` compressed ones."""
    return max(INFLATED_BYTES_MAX, INFLATION_RATIO_MAX * size)


def compress(str codec, data, level=None):
    """`data` in the framing Kafka uses for `codec`."""
    cdef Py_buffer view
    cdef int codec_id = codec_id_of(codec)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return bytes(deflate(codec_id, <const uint8_t*>view.buf, view.len, level))
    finally:
        PyBuffer_Release(&view)


def decompress(str codec, data, *, budget=None):
    """The inverse of `compress`; at most `budget` bytes (default: `budget_for(len(data))`)."""
    cdef int codec_id = codec_id_of(codec)
    with memoryview(data) as source, source.cast("B") as flat:
        if codec_id == CODEC_NONE:
            return bytes(flat)
        return bytes(_inflate(codec_id, flat, budget_for(len(flat)) if budget is None else budget))


# --------------------------------------------------------------------- inflating

cdef object _inflate(int codec_id, data, budget):
    if codec_id >= CODEC_COUNT:
        raise UnsupportedCodec("unknown codec", expected=", ".join(CODEC_NAMES), found=codec_id)
    try:
        if codec_id == CODEC_GZIP:
            return _inflate_gzip(data, budget)
        if codec_id == CODEC_SNAPPY:
            return _inflate_snappy(data, budget)
        if codec_id == CODEC_LZ4:
            return _inflate_lz4(data, budget)
        return _inflate_zstd(data, budget)
    except ImportError as error:
        name = CODEC_NAMES[codec_id]
        raise UnsupportedCodec(f"the library for {name} is missing: {error}") from error
    except (CoreError, MemoryError):
        raise
    except Exception as error:  # each library has errors of its own
        name = CODEC_NAMES[codec_id]
        raise CorruptBatch(f"the {name} data of a batch is damaged: {error}") from error


cdef object _over_budget(str codec, budget):
    return LimitExceeded(
        f"a batch inflates ({codec}) to more than its budget",
        expected=f"at most {budget} bytes", found="more",
    )


cdef object _cut_short(str codec):
    return CorruptBatch(f"the {codec} data of a batch is cut short")


cdef object _too_many_frames(str codec):
    return CorruptBatch(f"the {codec} data of a batch has more than {FRAMES_MAX} frames")


cdef object _gather(list pieces, piece, int64_t size):
    """One more piece, with which they are `size` bytes. Joined at the end they would take that
    memory twice, so where it is much they grow in one place, at 1.2 times the cost."""
    if pieces and type(pieces[0]) is bytearray:
        pieces[0] += piece
        return
    pieces.append(piece)
    if size > GATHERED_BYTES_MAX:
        pieces[:] = [bytearray().join(pieces)]


cdef object _inflate_gzip(data, budget):
    import zlib

    pieces = []
    cdef int64_t pos = 0, size = len(data), left = budget
    for _ in range(FRAMES_MAX):
        member = zlib.decompressobj(31)  # 16: gzip wrapping, 15: the full window
        rest = b""
        while not member.eof:
            fed = rest or data[pos:pos + PIECE_BYTES]
            pos += 0 if rest else len(fed)
            piece = member.decompress(fed, min(PIECE_BYTES, left + 1))
            left -= len(piece)
            if left < 0:
                raise _over_budget("gzip", budget)
            _gather(pieces, piece, budget - left)
            rest = member.unconsumed_tail
            if not piece and pos >= size and not member.eof:
                raise _cut_short("gzip")
        pos -= len(member.unused_data)
        if pos >= size:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    raise _too_many_frames("gzip")


cdef object _inflate_lz4(data, budget):
    from lz4.frame import LZ4FrameDecompressor

    pieces = []
    cdef int64_t pos = 0, size = len(data), left = budget
    for _ in range(FRAMES_MAX):
        frame = LZ4FrameDecompressor()
        fed = b""
        while not frame.eof:
            if frame.needs_input:
                if pos >= size:
                    raise _cut_short("lz4")
                fed = data[pos:pos + PIECE_BYTES]
                pos += len(fed)
            piece = frame.decompress(fed, max_length=min(4 * PIECE_BYTES, left + 1))
            left -= len(piece)
            if left < 0:
                raise _over_budget("lz4", budget)
            _gather(pieces, piece, budget - left)
            fed = b""  # what it has not used it keeps
        pos -= len(frame.unused_data or b"")
        if pos >= size:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    raise _too_many_frames("lz4")


cdef object _inflate_zstd(data, budget):
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)
    parameters = zstandard.get_frame_parameters(data)
    # A size of 0 is left to the careful way: the library would not look at the rest of the frame.
    unknown = (0, zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR)
    if parameters.content_size not in unknown:
        if parameters.content_size > budget:
            raise _over_budget("zstd", budget)
        try:
            return decompressor.decompress(data, allow_extra_data=False)
        except zstandard.ZstdError:
            pass  # damaged, or several frames: the careful way finds out
    return _inflate_zstd_stream(decompressor, data, budget)


cdef object _inflate_zstd_stream(decompressor, data, budget):
    """Frames of unknown size. The library returns all that a step of input yields, and holds it
    twice meanwhile: a step is so small that it yields a quarter of what is left at worst."""
    pieces = []
    cdef int64_t pos = 0, size = len(data), left = budget, step
    for _ in range(FRAMES_MAX):
        frame = decompressor.decompressobj()
        while not frame.eof:
            if pos >= size:
                raise _cut_short("zstd")
            step = max(1, left // 4 // ZSTD_BLOCK_BYTES_MAX) * ZSTD_BLOCK_BYTES_MIN
            piece = frame.decompress(data[pos:pos + step])
            pos = min(pos + step, size)
            left -= len(piece)
            if left < 0:
                raise _over_budget("zstd", budget)
            _gather(pieces, piece, budget - left)
        pos -= len(frame.unused_data)
        if pos >= size:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    raise _too_many_frames("zstd")


cdef object _inflate_snappy(data, budget):
    from cramjam import snappy

    if bytes(data[:8]) != XERIAL_MAGIC:
        out = bytearray(_snappy_size(data, budget))
        snappy.decompress_raw_into(data, out)
        return out
    blocks = _xerial_blocks(data)
    sizes = []
    left = budget
    for block in blocks:
        size = _snappy_size(block, left)
        left -= size
        sizes.append(size)
    out = bytearray(sum(sizes))
    pos = 0
    with memoryview(out) as room:
        for block, size in zip(blocks, sizes):
            snappy.decompress_raw_into(block, room[pos:pos + size])
            pos += size
    return out


cdef object _snappy_size(block, budget):
    """The size that a raw block promises, if it can be true and the budget has it."""
    cdef Py_buffer view
    cdef Cursor c
    cdef uint32_t size
    PyObject_GetBuffer(block, &view, PyBUF_SIMPLE)
    try:
        c = cursor_over(view.buf, view.len)
        if not read_unsigned_varint(&c, &size) or size > <int64_t>view.len * SNAPPY_RATIO_MAX:
            raise CorruptBatch("the size of a snappy block cannot be true")
        if size > budget:
            raise _over_budget("snappy", budget)
        return size
    finally:
        PyBuffer_Release(&view)


cdef list _xerial_blocks(data):
    """The raw blocks of snappy-java's framing: length int32, block, and so on to the end."""
    cdef Py_buffer view
    cdef Cursor c
    cdef int32_t length
    cdef int64_t pos
    cdef list blocks = []
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        c = cursor_over(view.buf, view.len)
        if not cursor_skip(&c, len(XERIAL_HEADER)):
            raise _cut_short("snappy")
        while c.p < c.end:
            if not cursor_i32(&c, &length):
                raise _cut_short("snappy")
            pos = c.p - <const uint8_t*>view.buf
            if not cursor_skip(&c, length):
                raise _cut_short("snappy")
            blocks.append(data[pos:pos + length])
    finally:
        PyBuffer_Release(&view)
    return blocks


# --------------------------------------------------------------------- compressing

cdef object _deflate_gzip(data, level):
    import zlib

    compressor = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, 31)
    return compressor.compress(data) + compressor.flush()


cdef object _deflate_snappy(data):
    from cramjam import snappy

    cdef int64_t pos
    pieces = [XERIAL_HEADER]
    for pos in range(0, len(data), XERIAL_BLOCK_BYTES):
        block = snappy.compress_raw(data[pos:pos + XERIAL_BLOCK_BYTES])
        pieces.append(len(block).to_bytes(4, "big"))
        pieces.append(block)
    return b"".join(pieces)


cdef object _deflate_lz4(data, level):
    from lz4.frame import BLOCKSIZE_MAX64KB, compress

    level = 0 if level is None else level
    return compress(data, level, BLOCKSIZE_MAX64KB, block_linked=False, store_size=False)


cdef object _deflate_zstd(data, level):
    import zstandard

    return zstandard.ZstdCompressor(level=3 if level is None else level).compress(data)
