package peers.streams;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import peers.Hit;
import peers.Line;

/**
 * The sessions of users. The input is keyed by user and in order, so that a user has one open
 * session, and one read and one write an event do: the session windows of Kafka Streams search a
 * range of a store for each, and took four times the processor time for this job.
 */
final class UserSessions extends ContextualProcessor<byte[], byte[], byte[], byte[]> {
    static final String OPEN = "open";

    private static final long GAP = 30 * 60_000;

    /** How much event time there is between two searches for sessions that are over. */
    private static final long EVERY = GAP / 6;

    private final Hit hit = new Hit();
    private final Line line = new Line();

    /** By user: the times of the first and last event, and how many. */
    private KeyValueStore<String, byte[]> open;

    private long nextSearch = Long.MIN_VALUE;

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        super.init(context);
        open = context.getStateStore(OPEN);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        try {
            hit.parse(record.value());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        if (hit.time >= nextSearch) {
            search(hit.time);
            nextSearch = hit.time + EVERY;
        }
        byte[] kept = open.get(hit.user);
        if (kept != null && isOver(kept, hit.time)) {
            write(hit.user, kept);
            kept = null;
        }
        byte[] session = new byte[24];
        Longs.put(session, 0, kept == null ? hit.time : Longs.get(kept, 0));
        Longs.put(session, 8, hit.time);
        Longs.put(session, 16, kept == null ? 1 : Longs.get(kept, 16) + 1);
        open.put(hit.user, session);
    }

    private void search(long time) {
        try (KeyValueIterator<String, byte[]> users = open.all()) {
            while (users.hasNext()) {
                KeyValue<String, byte[]> user = users.next();
                if (isOver(user.value, time)) {
                    write(user.key, user.value);
                    open.delete(user.key);
                }
            }
        }
    }

    private static boolean isOver(byte[] session, long time) {
        return Longs.get(session, 8) + GAP <= time;
    }

    private void write(String user, byte[] session) {
        long last = Longs.get(session, 8);
        line.clear().add(Longs.get(session, 0)).add(last).add(Longs.get(session, 16));
        context().forward(new Record<>(user.getBytes(StandardCharsets.UTF_8), line.bytes(), last));
    }
}
