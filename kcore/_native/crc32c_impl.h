/* CRC-32C (Castagnoli), the checksum of record batches. See crc32c_impl.c. */
#ifndef KCORE_CRC32C_IMPL_H
#define KCORE_CRC32C_IMPL_H

#include <stddef.h>
#include <stdint.h>

/* Picks the fastest way this processor has. Called once, at import. */
void kcore_crc32c_init(void);

/* The CRC of what `crc` covered followed by `size` bytes at `p`. Start with 0. */
uint32_t kcore_crc32c_extend(uint32_t crc, const void *p, size_t size);

/* The same, and copies the bytes to `dst` in the one pass. The areas must not overlap. */
uint32_t kcore_crc32c_copy(uint32_t crc, void *dst, const void *src, size_t size);

/* The ways compiled in, for tests and benches: name by index (NULL past the end), whether this
 * processor has it, and switching to one (0 on success). */
const char *kcore_crc32c_way(int index);
int kcore_crc32c_available(int index);
int kcore_crc32c_use(int index);
int kcore_crc32c_current(void);

#endif
