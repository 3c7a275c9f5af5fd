package peers.streams;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Counts the bids of auctions in panes of as long as the windows slide, and writes for each window
 * the largest count of this task's auctions, with the auctions that have it.
 */
final class MostOfTask extends Waiting<Long> {
    static final String PANES = "panes";
    static final String PROGRESS = "panes-progress";

    private static final long SIZE = 10_000;
    private static final long SLIDE = 2_000;
    private static final long LAST_END = -1; // a key of the progress

    /** By the start of the pane and the auction: how many bids. */
    private KeyValueStore<byte[], byte[]> panes;

    private KeyValueStore<Long, Long> progress;

    /** The end of the last window written. */
    private long lastEnd;

    MostOfTask(int writers) {
        super(writers, PROGRESS);
    }

    @Override
    public void init(ProcessorContext<Long, byte[]> context) {
        super.init(context);
        panes = context.getStateStore(PANES);
        progress = context.getStateStore(PROGRESS);
        Long kept = progress.get(LAST_END);
        lastEnd = kept == null ? 0 : kept;
    }

    @Override
    void take(Record<Long, byte[]> bid) {
        byte[] key = Longs.of(bid.timestamp() / SLIDE * SLIDE, bid.key());
        byte[] kept = panes.get(key);
        byte[] count = new byte[8];
        Longs.put(count, 0, kept == null ? 1 : Longs.get(kept, 0) + 1);
        panes.put(key, count);
    }

    @Override
    void reached(long time) {
        long end = time / SLIDE * SLIDE; // of the last window that is over
        if (end <= lastEnd) {
            return;
        }
        TreeMap<Long, Map<Long, Long>> counts = read(end);
        TreeSet<Long> ends = new TreeSet<>();
        counts.keySet().forEach(start -> {
            for (long e = start + SLIDE; e <= start + SIZE; e += SLIDE) {
                ends.add(e);
            }
        });
        ends.subSet(lastEnd + 1, true, end, true).forEach(e -> write(e, counts.subMap(e - SIZE, e)));
        // What the next window has no part in any more.
        counts.headMap(end + SLIDE - SIZE).forEach(
                (start, auctions) -> auctions.keySet().forEach(auction -> panes.delete(Longs.of(start, auction))));
        lastEnd = end;
        progress.put(LAST_END, end);
    }

    /** The panes that begin before a time, of those that are left. */
    private TreeMap<Long, Map<Long, Long>> read(long before) {
        TreeMap<Long, Map<Long, Long>> counts = new TreeMap<>();
        byte[] from = Longs.of(Math.max(0, lastEnd + SLIDE - SIZE), 0);
        try (KeyValueIterator<byte[], byte[]> entries = panes.range(from, Longs.of(before - 1, Long.MAX_VALUE))) {
            while (entries.hasNext()) {
                KeyValue<byte[], byte[]> entry = entries.next();
                counts.computeIfAbsent(Longs.get(entry.key, 0), s -> new HashMap<>())
                        .put(Longs.get(entry.key, 8), Longs.get(entry.value, 0));
            }
        }
        return counts;
    }

    private void write(long end, Map<Long, Map<Long, Long>> window) {
        Map<Long, Long> sums = new HashMap<>();
        window.values().forEach(pane -> pane.forEach((auction, count) -> sums.merge(auction, count, Long::sum)));
        long most = 0;
        List<Long> auctions = new ArrayList<>();
        for (Map.Entry<Long, Long> sum : sums.entrySet()) {
            if (sum.getValue() > most) {
                most = sum.getValue();
                auctions.clear();
            }
            if (sum.getValue() == most) {
                auctions.add(sum.getKey());
            }
        }
        context().forward(new Record<>(end, value(most, auctions), end - 1));
    }

    private byte[] value(long most, List<Long> auctions) {
        byte[] value = new byte[9 + 8 * auctions.size()];
        value[0] = (byte) context().taskId().partition();
        Longs.put(value, 1, most);
        for (int i = 0; i < auctions.size(); i++) {
            Longs.put(value, 9 + 8 * i, auctions.get(i));
        }
        return value;
    }

    @Override
    void ended(long time) {
        context().forward(new Record<>(Shuffle.END, value(0, List.of()), time));
    }
}
