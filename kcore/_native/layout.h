/* Byte positions and sizes of everything the engine writes: record batch v2, index entries.
 *
 * Nothing else lives here. All integers on disk are big-endian (endian.pxd). The relations between
 * the numbers are checked by the compiler at the bottom.
 */
#ifndef KCORE_LAYOUT_H
#define KCORE_LAYOUT_H

/* Record batch v2. `BATCH_LENGTH_AT` counts what follows it, hence the overhead of 12 bytes.
 * Base offset, length, leader epoch, magic and the CRC itself lie outside the CRC: a leader
 * stamps offsets and epoch without touching the checksum. */
enum {
    BATCH_BASE_OFFSET_AT = 0,
    BATCH_LENGTH_AT = 8,
    BATCH_LEADER_EPOCH_AT = 12,
    BATCH_MAGIC_AT = 16,
    BATCH_CRC_AT = 17,
    BATCH_ATTRIBUTES_AT = 21, /* the CRC covers everything from here on */
    BATCH_LAST_OFFSET_DELTA_AT = 23,
    BATCH_BASE_TIMESTAMP_AT = 27,
    BATCH_MAX_TIMESTAMP_AT = 35,
    BATCH_PRODUCER_ID_AT = 43,
    BATCH_PRODUCER_EPOCH_AT = 51,
    BATCH_BASE_SEQUENCE_AT = 53,
    BATCH_RECORD_COUNT_AT = 57,
    BATCH_HEADER_BYTES = 61,
    BATCH_OVERHEAD_BYTES = 12,
    BATCH_CRC_FROM = BATCH_ATTRIBUTES_AT,
    BATCH_BYTES_MAX = 100 * 1024 * 1024, /* = kcore.limits.BATCH_BYTES_MAX */
    BATCH_RECORDS_MAX = 1 << 24,         /* = kcore.limits.RECORDS_PER_BATCH_MAX */
    BATCH_MAGIC_V2 = 2
};

/* Attribute bits of a batch. */
enum {
    ATTR_CODEC_MASK = 0x07,
    ATTR_APPEND_TIME = 0x08,
    ATTR_TRANSACTIONAL = 0x10,
    ATTR_CONTROL = 0x20,
    ATTR_DELETE_HORIZON = 0x40
};

enum {
    CODEC_NONE = 0,
    CODEC_GZIP = 1,
    CODEC_SNAPPY = 2,
    CODEC_LZ4 = 3,
    CODEC_ZSTD = 4,
    CODEC_COUNT = 5
};

/* A record: length, attributes, timestamp delta, offset delta, key length, value length, header
 * count: seven bytes when every varint is one byte and key and value are empty or null. */
enum { RECORD_BYTES_MIN = 7, HEADER_BYTES_MIN = 2 };

/* Index entries: relative offset int32 and position int32; timestamp int64 and relative offset
 * int32; the transaction index is version int16 and four int64. */
enum {
    INDEX_ENTRY_BYTES = 8,
    INDEX_ENTRY_OFFSET_AT = 0,
    INDEX_ENTRY_POSITION_AT = 4,
    TIME_INDEX_ENTRY_BYTES = 12,
    TIME_INDEX_ENTRY_TIMESTAMP_AT = 0,
    TIME_INDEX_ENTRY_OFFSET_AT = 8,
    TXN_INDEX_ENTRY_BYTES = 34
};

_Static_assert(BATCH_LENGTH_AT + 4 == BATCH_OVERHEAD_BYTES, "the length counts what follows it");
_Static_assert(BATCH_CRC_AT + 4 == BATCH_CRC_FROM, "the CRC covers what follows it");
_Static_assert(BATCH_RECORD_COUNT_AT + 4 == BATCH_HEADER_BYTES, "records follow the count");
_Static_assert(BATCH_BASE_SEQUENCE_AT == BATCH_PRODUCER_EPOCH_AT + 2, "producer epoch is an int16");
_Static_assert(INDEX_ENTRY_POSITION_AT + 4 == INDEX_ENTRY_BYTES, "an index entry has two int32");
_Static_assert(TIME_INDEX_ENTRY_OFFSET_AT + 4 == TIME_INDEX_ENTRY_BYTES, "int64 and int32");
_Static_assert(TXN_INDEX_ENTRY_BYTES == 2 + 4 * 8, "version and four int64");

#endif
