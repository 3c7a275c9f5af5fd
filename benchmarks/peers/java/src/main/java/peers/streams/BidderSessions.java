package peers.streams;

import java.util.Arrays;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import peers.Line;

/** The sessions of bidders. Those that are over are found by going over all that are open. */
final class BidderSessions extends Waiting<byte[]> {
    static final String OPEN = "open";
    static final String PROGRESS = "open-progress";

    private static final long GAP = 10_000;
    private static final int SESSION = 24; // bytes of one: first, last, count

    private final Line line = new Line();

    /** By the bidder: the open sessions, in no order. */
    private KeyValueStore<Long, byte[]> open;

    /** No session is over before. */
    private long nextOver;

    BidderSessions(int writers) {
        super(writers, PROGRESS);
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        super.init(context);
        open = context.getStateStore(OPEN);
    }

    @Override
    void take(Record<Long, byte[]> bid) {
        long first = bid.timestamp();
        long last = first;
        long count = 1;
        byte[] kept = open.get(bid.key());
        int others = kept == null ? 0 : kept.length;
        byte[] now = new byte[others + SESSION];
        int size = 0;
        for (int at = 0; at < others; at += SESSION) {
            long from = Longs.get(kept, at);
            long to = Longs.get(kept, at + 8);
            if (bid.timestamp() < to + GAP && from < bid.timestamp() + GAP) {
                first = Math.min(first, from);
                last = Math.max(last, to);
                count += Longs.get(kept, at + 16);
            } else {
                System.arraycopy(kept, at, now, size, SESSION);
                size += SESSION;
            }
        }
        Longs.put(now, size, first);
        Longs.put(now, size + 8, last);
        Longs.put(now, size + 16, count);
        size += SESSION;
        open.put(bid.key(), size == now.length ? now : Arrays.copyOf(now, size));
    }

    @Override
    void reached(long time) {
        if (time < nextOver) {
            return;
        }
        long next = time > Long.MAX_VALUE - GAP ? time : time + GAP; // of any session that is yet to come
        try (KeyValueIterator<Long, byte[]> bidders = open.all()) {
            while (bidders.hasNext()) {
                KeyValue<Long, byte[]> bidder = bidders.next();
                byte[] left = write(bidder.key, bidder.value, time);
                if (left.length == 0) {
                    open.delete(bidder.key);
                } else if (left.length < bidder.value.length) {
                    open.put(bidder.key, left);
                }
                for (int at = 0; at < left.length; at += SESSION) {
                    next = Math.min(next, Longs.get(left, at + 8) + GAP);
                }
            }
        }
        nextOver = next;
    }

    /** Writes those of a bidder's sessions that are over, and returns the others. */
    private byte[] write(long bidder, byte[] sessions, long time) {
        byte[] left = new byte[sessions.length];
        int size = 0;
        for (int at = 0; at < sessions.length; at += SESSION) {
            long last = Longs.get(sessions, at + 8);
            if (last + GAP > time) {
                System.arraycopy(sessions, at, left, size, SESSION);
                size += SESSION;
                continue;
            }
            line.clear().add(bidder).add(Longs.get(sessions, at)).add(last).add(Longs.get(sessions, at + 16));
            context().forward(new Record<>(null, line.bytes(), last));
        }
        return Arrays.copyOf(left, size);
    }
}
