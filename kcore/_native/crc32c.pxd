"""CRC-32C for the other units: `crc32c_extend` and the fused copy. Start a chain with 0."""

from libc.stdint cimport uint32_t

cdef uint32_t crc32c_extend(uint32_t crc, const void* p, size_t size) noexcept nogil
cdef uint32_t crc32c_copy(uint32_t crc, void* dst, const void* src, size_t size) noexcept nogil
