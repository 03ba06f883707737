import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeSet;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java client as a driver process: JavaDriver BOOTSTRAP; the line protocol is protocol.py's. */
public final class JavaDriver {
    private static final long TIMEOUT_S = 60;
    private static final ObjectMapper JSON = new ObjectMapper();

    private final String bootstrap;
    /** One producer for each configuration, kept: it lives through a restart of the broker. */
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
    private final Map<String, JavaMember> members = new HashMap<>();
    private final Admin admin;
    private final JavaGroups groups;

    private JavaDriver(String bootstrap) {
        this.bootstrap = bootstrap;
        this.admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        this.groups = new JavaGroups(admin);
    }

    public static void main(String[] arguments) throws Exception {
        JavaDriver driver = new JavaDriver(arguments[0]);
        BufferedReader in =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            ObjectNode answer = JSON.createObjectNode();
            try {
                answer.set("result", driver.handle(JSON.readTree(line)));
            } catch (Exception error) {
                Throwable cause = error.getCause() == null ? error : error.getCause();
                answer.put("error", cause.getClass().getSimpleName() + ": " + cause.getMessage());
            }
            say(answer);
        }
        System.exit(0); // A producer that still waits for a dead broker must not hold the process.
    }

    static synchronized void say(ObjectNode message) {
        byte[] line = (message + "\n").getBytes(StandardCharsets.UTF_8);
        System.out.write(line, 0, line.length);
        System.out.flush();
    }

    private JsonNode handle(JsonNode request) throws Exception {
        String topic = request.path("topic").asText();
        TopicPartition where = new TopicPartition(topic, request.path("partition").asInt());
        String member = request.path("member").asText();
        switch (request.get("op").asText()) {
            case "produce": return produce(where, request);
            case "consume": return consume(where, request);
            case "digest": return digest(where, request.get("count").asLong());
            case "create_topic": {
                NewTopic created = new NewTopic(
                    topic, Optional.of(request.get("partitions").asInt()), Optional.empty());
                created.configs(strings(request.get("config")));
                return done(admin.createTopics(List.of(created)).all());
            }
            case "delete_topic": return done(admin.deleteTopics(List.of(topic)).all());
            case "create_partitions": {
                NewPartitions total = NewPartitions.increaseTo(request.get("count").asInt());
                return done(admin.createPartitions(Map.of(topic, total)).all());
            }
            case "list_topics": {
                ArrayNode names = JSON.createArrayNode();
                new TreeSet<>(get(admin.listTopics().names())).forEach(names::add);
                return names;
            }
            case "partition_count": {
                TopicDescription described =
                    get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
                return JSON.valueToTree(described.partitions().size());
            }
            case "describe_config": return describeConfig(topic);
            case "set_config": return setConfig(topic, strings(request.get("config")));
            case "delete_records": {
                RecordsToDelete before = RecordsToDelete.beforeOffset(request.get("before").asLong());
                DeleteRecordsResult deleted = admin.deleteRecords(Map.of(where, before));
                return JSON.valueToTree(get(deleted.lowWatermarks().get(where)).lowWatermark());
            }
            case "list_offset": return listOffset(where, request.get("which").asText());
            case "log_dirs": return logDirs();
            case "cluster": return cluster();
            case "open_member": {
                members.put(member, new JavaMember(bootstrap, request));
                members.get(member).start();
                return JSON.nullNode();
            }
            case "commit_member": {
                members.get(member).commitNow();
                return JSON.nullNode();
            }
            case "close_member": {
                members.remove(member).leaveNow();
                return JSON.nullNode();
            }
            default: {
                JsonNode answer = groups.handle(request);
                if (answer == null) {
                    throw new IllegalArgumentException("no such operation: " + request.get("op"));
                }
                return answer;
            }
        }
    }

    private JsonNode produce(TopicPartition where, JsonNode request) throws Exception {
        int acks = request.path("acks").asInt(-1);
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("compression.type", request.path("codec").asText("none"));
        config.put("acks", acks == -1 ? "all" : Integer.toString(acks));
        config.put("enable.idempotence", request.path("idempotent").asBoolean(false));
        config.put("linger.ms", 20);
        config.put("request.timeout.ms", 30_000);
        config.put("max.request.size", 2_000_000);
        KafkaProducer<byte[], byte[]> producer = producers.computeIfAbsent(
            config.toString(),
            key -> new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer()));
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode record : request.get("records")) {
            Long timestamp = record.get("t").isNull() ? null : record.get("t").asLong();
            List<Header> headers = new ArrayList<>();
            for (JsonNode pair : record.get("h")) {
                headers.add(new RecordHeader(pair.get(0).asText(), bytes(pair.get(1))));
            }
            sent.add(producer.send(new ProducerRecord<>(
                where.topic(), where.partition(), timestamp,
                bytes(record.get("k")), bytes(record.get("v")), headers)));
        }
        producer.flush();
        ArrayNode offsets = JSON.createArrayNode();
        for (Future<RecordMetadata> future : sent) {
            offsets.add(get(future).offset());
        }
        return offsets;
    }

    private KafkaConsumer<byte[], byte[]> consumer() {
        return new KafkaConsumer<>(
            Map.of("bootstrap.servers", bootstrap, "enable.auto.commit", false,
                "auto.offset.reset", "none", "max.partition.fetch.bytes", 4_000_000),
            new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private JsonNode consume(TopicPartition where, JsonNode request) throws Exception {
        int count = request.get("count").asInt();
        long value = request.path("value").asLong(0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(where));
            String start = request.get("start").asText();
            switch (start) {
                case "beginning": consumer.seekToBeginning(List.of(where)); break;
                case "end": consumer.seekToEnd(List.of(where)); break;
                case "timestamp":
                    consumer.seek(where, consumer.offsetsForTimes(Map.of(where, value)).get(where).offset());
                    break;
                default: consumer.seek(where, value);
            }
            consumer.position(where);
            if (start.equals("end")) {
                say(JSON.createObjectNode().put("event", "positioned"));
            }
            ArrayNode records = JSON.createArrayNode();
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(TIMEOUT_S);
            while (records.size() < count) {
                checkDeadline(deadline, records.size(), count);
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    if (records.size() < count) {
                        records.add(describe(record));
                    }
                }
            }
            return records;
        }
    }

    /** SHA-256 over size and bytes of the first values of a partition. */
    private JsonNode digest(TopicPartition where, long count) throws Exception {
        MessageDigest sha = MessageDigest.getInstance("SHA-256");
        long seen = 0;
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(where));
            consumer.seekToBeginning(List.of(where));
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(2 * TIMEOUT_S);
            while (seen < count) {
                checkDeadline(deadline, seen, count);
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    if (seen == count) {
                        break;
                    }
                    byte[] value = record.value() == null ? new byte[0] : record.value();
                    sha.update(ByteBuffer.allocate(4).putInt(value.length).array());
                    sha.update(value);
                    seen++;
                }
            }
        }
        StringBuilder text = new StringBuilder();
        for (byte b : sha.digest()) {
            text.append(String.format("%02x", b));
        }
        return JSON.valueToTree(text.toString());
    }

    private static void checkDeadline(long deadline, long seen, long count) throws TimeoutException {
        if (System.nanoTime() > deadline) {
            throw new TimeoutException(seen + " of " + count + " records");
        }
    }

    private static ObjectNode describe(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode node = JSON.createObjectNode();
        node.put("k", text(record.key())).put("v", text(record.value()));
        node.put("t", record.timestamp()).put("o", record.offset());
        ArrayNode headers = node.putArray("h");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(text(header.value()));
        }
        return node;
    }

    private JsonNode describeConfig(String topic) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        ObjectNode node = JSON.createObjectNode();
        for (ConfigEntry entry : get(admin.describeConfigs(List.of(resource)).all()).get(resource).entries()) {
            node.put(entry.name(), entry.value());
        }
        return node;
    }

    private JsonNode setConfig(String topic, Map<String, String> config) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        List<AlterConfigOp> changes = new ArrayList<>();
        config.forEach((name, value) ->
            changes.add(new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)));
        return done(admin.incrementalAlterConfigs(Map.of(resource, changes)).all());
    }

    private JsonNode listOffset(TopicPartition where, String which) throws Exception {
        OffsetSpec spec = switch (which) {
            case "earliest" -> OffsetSpec.earliest();
            case "latest" -> OffsetSpec.latest();
            case "max_timestamp" -> OffsetSpec.maxTimestamp();
            default -> throw new IllegalArgumentException(which);
        };
        return JSON.valueToTree(get(admin.listOffsets(Map.of(where, spec)).partitionResult(where)).offset());
    }

    private JsonNode logDirs() throws Exception {
        List<Integer> ids = new ArrayList<>();
        get(admin.describeCluster().nodes()).forEach(node -> ids.add(node.id()));
        ObjectNode sizes = JSON.createObjectNode();
        for (Map<String, LogDirDescription> folders :
                get(admin.describeLogDirs(ids).allDescriptions()).values()) {
            for (LogDirDescription folder : folders.values()) {
                folder.replicaInfos().forEach((where, info) -> sizes.put(where.toString(), info.size()));
            }
        }
        return sizes;
    }

    private JsonNode cluster() throws Exception {
        DescribeClusterResult described = admin.describeCluster();
        ObjectNode node = JSON.createObjectNode().put("id", get(described.clusterId()));
        ArrayNode nodes = node.putArray("nodes");
        for (Node broker : get(described.nodes())) {
            nodes.addArray().add(broker.id()).add(broker.host()).add(broker.port());
        }
        return node;
    }

    private static JsonNode done(Future<?> future) throws Exception {
        get(future);
        return JSON.nullNode();
    }

    private static <T> T get(Future<T> future) throws Exception {
        return future.get(TIMEOUT_S, TimeUnit.SECONDS);
    }

    private static Map<String, String> strings(JsonNode node) {
        Map<String, String> map = new HashMap<>();
        node.properties().forEach(entry -> map.put(entry.getKey(), entry.getValue().asText()));
        return map;
    }

    private static byte[] bytes(JsonNode node) {
        return node.isNull() ? null : Base64.getDecoder().decode(node.asText());
    }

    private static String text(byte[] data) {
        return data == null ? null : Base64.getEncoder().encodeToString(data);
    }
}
