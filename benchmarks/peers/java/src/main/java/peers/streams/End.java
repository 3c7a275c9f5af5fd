package peers.streams;

import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import peers.Run;

/**
 * Finds out when an application has processed and committed all that its input had at the start.
 *
 * <p>That is so when the committed offsets have reached the input's end, and after that those of
 * each repartition topic the topic's end, in the order in which records go through them: what a
 * committed transaction has written is below the end that is asked for after the commit was seen.
 * The ends of transactions that are still open count as well, since the markers of a committed
 * one may come late. At last the output must have no transaction left open.
 */
final class End {
    private static final long PATIENCE_NANOS = 30 * 60 * 1_000_000_000L;
    private static final long POLL_MILLIS = 20;

    private final Admin admin;
    private final String application;
    private final Run run;
    private final Map<TopicPartition, Long> input;

    End(Admin admin, String application, Run run) throws Exception {
        this.admin = admin;
        this.application = application;
        this.run = run;
        this.input = ends(List.of(run.in()), IsolationLevel.READ_COMMITTED);
    }

    int inPartitions() {
        return input.size();
    }

    void await(AtomicReference<Throwable> failure) throws Exception {
        long began = System.nanoTime();
        while (!reached()) {
            if (failure.get() != null) {
                throw new IllegalStateException("Kafka Streams ended", failure.get());
            }
            if (System.nanoTime() - began > PATIENCE_NANOS) {
                throw new TimeoutException("the input's end was not reached: " + committed() + " of " + input);
            }
            Thread.sleep(POLL_MILLIS);
        }
    }

    private boolean reached() throws Exception {
        if (!isCommitted(input)) {
            return false;
        }
        for (String topic : repartitionTopics()) {
            if (!isCommitted(ends(List.of(topic), IsolationLevel.READ_UNCOMMITTED))) {
                return false;
            }
        }
        List<String> out = List.of(run.out());
        return ends(out, IsolationLevel.READ_COMMITTED).equals(ends(out, IsolationLevel.READ_UNCOMMITTED));
    }

    private boolean isCommitted(Map<TopicPartition, Long> ends) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> committed = committed();
        return ends.entrySet().stream()
                .allMatch(
                        end -> {
                            OffsetAndMetadata at = committed.get(end.getKey());
                            return end.getValue() == 0 || at != null && at.offset() >= end.getValue();
                        });
    }

    private Map<TopicPartition, OffsetAndMetadata> committed() throws Exception {
        return admin.listConsumerGroupOffsets(application).partitionsToOffsetAndMetadata().get();
    }

    private Map<TopicPartition, Long> ends(Collection<String> topics, IsolationLevel level) throws Exception {
        Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
        admin.describeTopics(topics).allTopicNames().get().forEach((topic, description) ->
                description.partitions().forEach(p -> asked.put(new TopicPartition(topic, p.partition()), OffsetSpec.latest())));
        return admin.listOffsets(asked, new ListOffsetsOptions(level)).all().get().entrySet().stream()
                .collect(Collectors.toMap(Map.Entry::getKey, e -> e.getValue().offset()));
    }

    /** Upstream first: Jobs names them so that this is their order. */
    private List<String> repartitionTopics() throws Exception {
        return internalTopics().stream().filter(t -> t.endsWith("-repartition")).sorted().toList();
    }

    private Set<String> internalTopics() throws Exception {
        return admin.listTopics().names().get().stream()
                .filter(t -> t.startsWith(application + "-"))
                .collect(Collectors.toSet());
    }

    void removeInternalTopics() throws Exception {
        admin.deleteTopics(internalTopics()).all().get();
    }
}
