package peers.streams;

import java.util.Arrays;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * How far in event time those that write a repartition topic have come: a watermark, which
 * Kafka Streams has none of. Its own stream time is the largest time seen, and that of the fastest
 * partition; a grace long enough for the slowest would keep all windows until the end.
 *
 * <p>Each writer's records are in the order of time. One that has ended says so in every partition.
 */
final class Progress {
    private final long[] reached;
    private final KeyValueStore<Long, Long> store;
    private long least;
    private boolean changed;

    Progress(int writers, KeyValueStore<Long, Long> store) {
        this.store = store;
        reached = new long[writers];
        for (int i = 0; i < writers; i++) {
            Long kept = store.get((long) i);
            reached[i] = kept == null ? Long.MIN_VALUE : kept;
        }
        least = Arrays.stream(reached).min().getAsLong();
    }

    void at(int writer, long time) {
        long before = reached[writer];
        if (time > before) {
            reached[writer] = time;
            changed = true;
            if (before == least) {
                least = Arrays.stream(reached).min().getAsLong();
            }
        }
    }

    /** Nothing earlier than this comes any more. */
    long least() {
        return least;
    }

    /**
     * Remembers it, with what is written because of it. In between it need not be: having come
     * back to an earlier one only delays, but for a writer's end, which comes once.
     */
    void save() {
        for (int i = 0; changed && i < reached.length; i++) {
            store.put((long) i, reached[i]);
        }
        changed = false;
    }
}
