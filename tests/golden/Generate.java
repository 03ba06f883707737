// Makes the golden batches of the Java client. With the jars of kafka-clients and its codecs:
//   java -cp 'kafka-clients-4.3.1.jar:...' Generate.java FOLDER
// The records are those of cases.py.
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;

public class Generate {
    static byte[] b(String s) { return s.getBytes(StandardCharsets.ISO_8859_1); }

    static byte[] repeat(byte[] piece, int times) {
        byte[] out = new byte[piece.length * times];
        for (int i = 0; i < times; i++) System.arraycopy(piece, 0, out, i * piece.length, piece.length);
        return out;
    }

    public static void main(String[] args) throws Exception {
        byte[] all = new byte[256];
        for (int i = 0; i < 256; i++) all[i] = (byte) i;
        Header[] headers = {new RecordHeader("a", b("1")), new RecordHeader("b", (byte[]) null),
                            new RecordHeader("a", new byte[0])};
        SimpleRecord[] records = {
            new SimpleRecord(1700000000000L, b("key"), b("value")),
            new SimpleRecord(1700000000005L, null, b("no key")),
            new SimpleRecord(1699999999000L, b("tombstone"), null),
            new SimpleRecord(1700000000005L, new byte[0], new byte[0]),
            new SimpleRecord(1700000086400000L, (byte[]) null, null),
            new SimpleRecord(1700000000006L, b("headers"), b("v"), headers),
            new SimpleRecord(1700000000007L, b("long"), repeat(b("abcdefghij"), 700)),
            new SimpleRecord(1700000000007L, repeat(new byte[] {0, (byte) 0xff}, 40), repeat(all, 3)),
        };
        for (String name : new String[] {"none", "gzip", "snappy", "lz4", "zstd"}) {
            Compression codec = Compression.of(name).build();
            write(args[0], "java-" + name, MemoryRecords.withIdempotentRecords(
                RecordBatch.MAGIC_VALUE_V2, 0L, codec, 4000L, (short) 5, 6, -1, records));
        }
        write(args[0], "java-append-time", MemoryRecords.withRecords(RecordBatch.MAGIC_VALUE_V2, 0L,
            Compression.NONE, TimestampType.LOG_APPEND_TIME, records));
        write(args[0], "java-transactional", MemoryRecords.withTransactionalRecords(
            RecordBatch.MAGIC_VALUE_V2, 70L, Compression.NONE, 4000L, (short) 5, 6, 3, records));
        for (ControlRecordType type : new ControlRecordType[] {ControlRecordType.COMMIT, ControlRecordType.ABORT})
            write(args[0], "java-" + type.name().toLowerCase(), MemoryRecords.withEndTransactionMarker(
                78L, 1700000000008L, 3, 4000L, (short) 5, new EndTransactionMarker(type, 9)));
    }

    static void write(String folder, String name, MemoryRecords records) throws Exception {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        Files.write(Paths.get(folder, name + ".batch"), bytes);
    }
}
