import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.FutureTask;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A member of a consumer group in a thread of its own; members.py says what it tells and when. */
final class JavaMember extends Thread implements ConsumerRebalanceListener {
    private static final long TIMEOUT_S = 60;
    private static final Duration POLL = Duration.ofMillis(100);
    private static final ObjectMapper JSON = new ObjectMapper();

    private final JsonNode options;
    private final String topic;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final TreeSet<Integer> owned = new TreeSet<>();
    private final TreeMap<Integer, Long> positions = new TreeMap<>();
    private final BlockingQueue<FutureTask<Void>> calls = new LinkedBlockingQueue<>();
    private boolean leaving = false;

    JavaMember(String bootstrap, JsonNode options) {
        super(options.get("member").asText());
        setDaemon(true);
        this.options = options;
        this.topic = options.get("topic").asText();
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", options.path("bootstrap").asText(bootstrap));
        config.put("group.id", options.get("group").asText());
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", false);
        config.put("reconnect.backoff.max.ms", 500);
        if (!options.get("instance").isNull()) {
            config.put("group.instance.id", options.get("instance").asText());
        }
        if (options.get("protocol").asText().equals("consumer")) {
            config.put("group.protocol", "consumer");
        } else {
            String assignor = options.get("assignor").asText();
            config.put("session.timeout.ms", options.get("session_ms").asInt());
            config.put("heartbeat.interval.ms", options.get("heartbeat_ms").asInt());
            config.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer."
                + (assignor.equals("range") ? "RangeAssignor" : "CooperativeStickyAssignor"));
        }
        this.consumer =
            new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    @Override
    public void run() {
        try {
            consumer.subscribe(List.of(topic), this);
            while (!leaving) {
                if (read() && options.get("commit").asText().equals("each")) {
                    commit();
                }
                for (FutureTask<Void> call = calls.poll(); call != null; call = calls.poll()) {
                    call.run();
                }
            }
            tell("closing", JSON.createObjectNode());
            consumer.close();
            tell("closed", JSON.createObjectNode());
        } catch (Exception error) {
            tell("failed", JSON.createObjectNode().put("error", error.toString()));
        }
    }

    void commitNow() throws Exception {
        call(this::commit);
    }

    void leaveNow() throws Exception {
        call(() -> leaving = true);
        join(TimeUnit.SECONDS.toMillis(TIMEOUT_S));
        if (isAlive()) {
            throw new TimeoutException(getName() + " does not close");
        }
    }

    private void call(Runnable action) throws Exception {
        FutureTask<Void> task = new FutureTask<>(action, null);
        calls.add(task);
        task.get(TIMEOUT_S, TimeUnit.SECONDS);
    }

    private boolean read() {
        ArrayNode read = JSON.createArrayNode();
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
            if (owned.contains(record.partition())) {
                positions.put(record.partition(), record.offset() + 1);
                read.addArray().add(record.partition()).add(record.offset())
                    .add(new String(record.value(), StandardCharsets.UTF_8));
            }
        }
        if (!read.isEmpty()) {
            tell("records", JSON.createObjectNode().set("records", read));
        }
        return !read.isEmpty();
    }

    private void commit() {
        Map<TopicPartition, OffsetAndMetadata> wanted = new HashMap<>();
        ArrayNode offsets = JSON.createArrayNode();
        positions.forEach((partition, offset) -> {
            wanted.put(new TopicPartition(topic, partition), new OffsetAndMetadata(offset));
            offsets.addArray().add(partition).add(offset);
        });
        try {
            consumer.commitSync(wanted, Duration.ofSeconds(TIMEOUT_S));
            tell("committed", JSON.createObjectNode().set("offsets", offsets));
        } catch (KafkaException error) {
            tell("refused", JSON.createObjectNode().put("error", error.toString()));
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        partitions.forEach(where -> owned.add(where.partition()));
        tellPartitions("assigned", partitions);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        drop("revoked", partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        drop("lost", partitions);
    }

    private void drop(String event, Collection<TopicPartition> partitions) {
        for (TopicPartition where : partitions) {
            owned.remove(where.partition());
            positions.remove(where.partition());
        }
        tellPartitions(event, partitions);
    }

    private void tellPartitions(String event, Collection<TopicPartition> partitions) {
        if (!partitions.isEmpty()) {
            ArrayNode told = JSON.createArrayNode();
            partitions.stream().map(TopicPartition::partition).sorted().forEach(told::add);
            tell(event, JSON.createObjectNode().set("partitions", told));
        }
    }

    private void tell(String event, ObjectNode fields) {
        int generation = -1;
        if (!event.equals("closed") && !event.equals("failed")) {
            generation = consumer.groupMetadata().generationId();
        }
        ObjectNode message = JSON.createObjectNode().put("event", event).put("member", getName());
        message.put("at", System.nanoTime() / 1e9).put("generation", generation);
        message.setAll(fields);
        JavaDriver.say(message);
    }
}
