package peers.streams;

import java.nio.charset.StandardCharsets;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import peers.Line;

/** Persons who registered and opened an auction in the same window, written as soon as both are known. */
final class NewSellers extends Waiting<byte[]> {
    static final String SELLERS = "sellers";
    static final String PROGRESS = "sellers-progress";

    private static final long SIZE = 10_000;
    private static final byte PERSON = 1;
    private static final byte AUCTION = 2;

    private final Line line = new Line();

    /** By the window's start and the person: what is known, and the name if that is. */
    private KeyValueStore<byte[], byte[]> sellers;

    /** Windows that start before this are removed. */
    private long removed;

    NewSellers(int writers) {
        super(writers, PROGRESS);
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        super.init(context);
        sellers = context.getStateStore(SELLERS);
    }

    @Override
    void take(Record<Long, byte[]> one) {
        long start = one.timestamp() / SIZE * SIZE;
        byte[] key = Longs.of(start, one.key());
        byte[] kept = sellers.get(key);
        byte known = kept == null ? 0 : kept[0];
        byte is = one.value().length > 1 ? PERSON : AUCTION;
        if ((known & is) != 0) {
            return;
        }
        byte[] now = is == PERSON || kept == null ? one.value().clone() : kept.clone();
        now[0] = (byte) (known | is);
        sellers.put(key, now);
        if (now[0] == (PERSON | AUCTION)) {
            String name = new String(now, 1, now.length - 1, StandardCharsets.UTF_8);
            line.clear().add(start).add(one.key()).add(name);
            context().forward(new Record<>(null, line.bytes(), one.timestamp()));
        }
    }

    @Override
    void reached(long time) {
        long start = time / SIZE * SIZE;
        if (start <= removed) {
            return;
        }
        try (KeyValueIterator<byte[], byte[]> over =
                sellers.range(Longs.of(removed, 0), Longs.of(start - 1, Long.MAX_VALUE))) {
            while (over.hasNext()) {
                sellers.delete(over.next().key);
            }
        }
        removed = start;
    }
}
