"""Compressing and inflating the record section of a batch."""

from libc.stdint cimport int64_t, uint8_t

# The inflated bytes (any object with a buffer), within the budget of `budget_for(size)`.
# Raises CorruptBatch, LimitExceeded, UnsupportedCodec.
cdef object inflate(int codec_id, const uint8_t* p, int64_t size)

# The compressed bytes; `level` None is the codec's own default.
cdef object deflate(int codec_id, const uint8_t* p, int64_t size, object level)
