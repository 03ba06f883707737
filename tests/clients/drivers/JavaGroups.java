import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;

/** Administration of groups by the Java client: `handle` gives null for what is not its own. */
final class JavaGroups {
    private static final long TIMEOUT_S = 60;
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Admin admin;

    JavaGroups(Admin admin) {
        this.admin = admin;
    }

    JsonNode handle(JsonNode request) throws Exception {
        String group = request.path("group").asText();
        switch (request.get("op").asText()) {
            case "list_groups": return list(request);
            case "describe_group": return describe(group);
            case "committed": return committed(group);
            case "commit_offsets": return commit(group, request.get("offsets"));
            case "delete_group": return done(admin.deleteConsumerGroups(List.of(group)).all());
            case "delete_offsets": {
                Set<TopicPartition> where = new HashSet<>();
                for (JsonNode row : request.get("partitions")) {
                    where.add(new TopicPartition(row.get(0).asText(), row.get(1).asInt()));
                }
                return done(admin.deleteConsumerGroupOffsets(group, where).all());
            }
            default: return null;
        }
    }

    private JsonNode list(JsonNode request) throws Exception {
        Set<GroupState> states = new HashSet<>();
        request.path("states").forEach(state -> states.add(GroupState.parse(state.asText())));
        Set<GroupType> types = new HashSet<>();
        request.path("types").forEach(type -> types.add(GroupType.parse(type.asText())));
        ListGroupsOptions options = new ListGroupsOptions().inGroupStates(states).withTypes(types);
        ObjectNode node = JSON.createObjectNode();
        for (GroupListing listing : get(admin.listGroups(options).all())) {
            node.putArray(listing.groupId())
                .add(text(listing.groupState())).add(text(listing.type())).add(listing.protocol());
        }
        return node;
    }

    private JsonNode describe(String group) throws Exception {
        ConsumerGroupDescription described =
            get(admin.describeConsumerGroups(List.of(group)).describedGroups().get(group));
        ObjectNode node = JSON.createObjectNode();
        node.put("state", described.groupState().toString().toLowerCase());
        node.put("type", described.type().toString().toLowerCase());
        node.put("assignor", described.partitionAssignor());
        node.put("epoch", described.groupEpoch().orElse(-1));
        node.put("assignment_epoch", described.targetAssignmentEpoch().orElse(-1));
        ObjectNode members = node.putObject("members");
        for (MemberDescription member : described.members()) {
            ObjectNode told = members.putObject(member.consumerId());
            told.put("client", member.clientId()).put("host", member.host());
            told.put("instance", member.groupInstanceId().orElse(null));
            told.put("epoch", member.memberEpoch().orElse(-1));
            told.set("partitions", rows(member.assignment()));
            if (member.targetAssignment().isPresent()) {
                told.set("target", rows(member.targetAssignment().get()));
            }
        }
        return node;
    }

    private static ArrayNode rows(MemberAssignment assignment) {
        TreeMap<String, TopicPartition> sorted = new TreeMap<>();
        for (TopicPartition where : assignment.topicPartitions()) {
            sorted.put(String.format("%s %09d", where.topic(), where.partition()), where);
        }
        ArrayNode rows = JSON.createArrayNode();
        sorted.values().forEach(where -> rows.addArray().add(where.topic()).add(where.partition()));
        return rows;
    }

    private JsonNode committed(String group) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> found =
            get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        TreeMap<String, ArrayNode> sorted = new TreeMap<>();
        found.forEach((where, offset) -> {
            if (offset != null) {
                ArrayNode row = JSON.createArrayNode().add(where.topic()).add(where.partition());
                row.add(offset.offset()).add(offset.metadata()).add(offset.leaderEpoch().orElse(-1));
                sorted.put(String.format("%s %09d", where.topic(), where.partition()), row);
            }
        });
        ArrayNode rows = JSON.createArrayNode();
        sorted.values().forEach(rows::add);
        return rows;
    }

    private JsonNode commit(String group, JsonNode offsets) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> wanted = new HashMap<>();
        for (JsonNode row : offsets) {
            int epoch = row.get(4).asInt();
            wanted.put(
                new TopicPartition(row.get(0).asText(), row.get(1).asInt()),
                new OffsetAndMetadata(
                    row.get(2).asLong(),
                    epoch < 0 ? Optional.empty() : Optional.of(epoch),
                    row.get(3).asText()));
        }
        return done(admin.alterConsumerGroupOffsets(group, wanted).all());
    }

    private static String text(Optional<?> value) {
        return value.map(found -> found.toString().toLowerCase()).orElse("");
    }

    private static JsonNode done(KafkaFuture<?> future) throws Exception {
        get(future);
        return JSON.nullNode();
    }

    private static <T> T get(Future<T> future) throws Exception {
        return future.get(TIMEOUT_S, TimeUnit.SECONDS);
    }
}
