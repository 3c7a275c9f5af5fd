package peers.streams;

import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import peers.Line;

/** The last bid of a bidder for an auction: time and price. */
final class LastBid extends ContextualProcessor<byte[], byte[], byte[], byte[]> {
    static final String LAST = "last";

    private final Line line = new Line();
    private KeyValueStore<byte[], byte[]> last;

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        super.init(context);
        last = context.getStateStore(LAST);
    }

    @Override
    public void process(Record<byte[], byte[]> bid) {
        long time = Longs.get(bid.value(), 0);
        long price = Longs.get(bid.value(), 8);
        byte[] kept = last.get(bid.key());
        if (kept != null && !isLater(time, price, kept)) {
            return;
        }
        last.put(bid.key(), bid.value());
        byte[] key = line.clear().add(Longs.get(bid.key(), 0)).add(Longs.get(bid.key(), 8)).bytes();
        context().forward(new Record<>(key, line.clear().add(time).add(price).bytes(), time));
    }

    private static boolean isLater(long time, long price, byte[] kept) {
        long before = Longs.get(kept, 0);
        return time > before || time == before && price > Longs.get(kept, 8);
    }
}
