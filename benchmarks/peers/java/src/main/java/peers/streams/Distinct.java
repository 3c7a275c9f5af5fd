package peers.streams;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import peers.Hit;
import peers.Line;

/** The pages that a user has seen for the first time. The input is keyed by user. */
final class Distinct extends ContextualProcessor<byte[], byte[], byte[], byte[]> {
    static final String SEEN = "seen";
    static final String COUNT = "count";

    private static final byte[] YES = {1};

    private final Hit hit = new Hit();
    private final Line line = new Line();
    private KeyValueStore<byte[], byte[]> seen;
    private KeyValueStore<String, Long> count;

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        super.init(context);
        seen = context.getStateStore(SEEN);
        count = context.getStateStore(COUNT);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        try {
            hit.parse(record.value());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        if (seen.putIfAbsent(line.clear().add(hit.user).add(hit.page).bytes(), YES) != null) {
            return;
        }
        Long before = count.get(hit.user);
        long n = before == null ? 1 : before + 1;
        count.put(hit.user, n);
        byte[] key = hit.user.getBytes(StandardCharsets.UTF_8);
        context().forward(new Record<>(key, line.clear().add(n).bytes(), record.timestamp()));
    }
}
