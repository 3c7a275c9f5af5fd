package peers.streams;

import java.util.Arrays;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import peers.Line;

/** The auctions with the most bids of a window, out of those of the tasks. */
final class MostOfWindow extends Waiting<byte[]> {
    static final String MOST = "most";
    static final String PROGRESS = "most-progress";

    private final Line line = new Line();

    /** By the end of the window: the count and the auctions that have it, after a byte of no use. */
    private KeyValueStore<Long, byte[]> most;

    MostOfWindow(int writers) {
        super(writers, PROGRESS);
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        super.init(context);
        most = context.getStateStore(MOST);
    }

    @Override
    void take(Record<Long, byte[]> one) {
        byte[] kept = most.get(one.key());
        most.put(one.key(), kept == null ? one.value() : larger(kept, one.value()));
    }

    private static byte[] larger(byte[] a, byte[] b) {
        int order = Long.compare(Longs.get(a, 1), Longs.get(b, 1));
        if (order != 0) {
            return order > 0 ? a : b;
        }
        byte[] both = Arrays.copyOf(a, a.length + b.length - 9);
        System.arraycopy(b, 9, both, a.length, b.length - 9);
        return both;
    }

    /** A task writes a window once, with the last time in it: the window that ends next is over. */
    @Override
    void reached(long time) {
        try (KeyValueIterator<Long, byte[]> over = most.range(0L, time == Long.MAX_VALUE ? time : time + 1)) {
            while (over.hasNext()) {
                KeyValue<Long, byte[]> window = over.next();
                write(window.key, window.value);
                most.delete(window.key);
            }
        }
    }

    private void write(long end, byte[] best) {
        for (int at = 9; at < best.length; at += 8) {
            line.clear().add(end).add(Longs.get(best, at)).add(Longs.get(best, 1));
            context().forward(new Record<>(null, line.bytes(), end - 1));
        }
    }
}
