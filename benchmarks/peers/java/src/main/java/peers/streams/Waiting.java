package peers.streams;

import java.time.Duration;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/** A processor that waits for the slowest of those that write its repartition topic. */
abstract class Waiting<K> extends ContextualProcessor<Long, byte[], K, byte[]> {
    /** As often as Flink sends watermarks. */
    private static final Duration EVERY = Duration.ofMillis(200);

    private final int writers;
    private final String store;
    private Progress progress;
    private long done = Long.MIN_VALUE;

    Waiting(int writers, String store) {
        this.writers = writers;
        this.store = store;
    }

    @Override
    public void init(ProcessorContext<K, byte[]> context) {
        super.init(context);
        progress = new Progress(writers, context.getStateStore(store));
        context.schedule(EVERY, PunctuationType.WALL_CLOCK_TIME, now -> proceed());
    }

    @Override
    public void process(Record<Long, byte[]> record) {
        int writer = record.value()[0];
        if (record.key() != Shuffle.END) {
            take(record);
            progress.at(writer, record.timestamp());
            return;
        }
        progress.at(writer, Long.MAX_VALUE);
        proceed();
        if (progress.least() == Long.MAX_VALUE) {
            ended(record.timestamp());
        }
    }

    private void proceed() {
        if (progress.least() > done) {
            done = progress.least();
            reached(done);
        }
        progress.save();
    }

    /** Takes in a record. */
    abstract void take(Record<Long, byte[]> record);

    /** Writes what is over: no record earlier than this comes any more. */
    abstract void reached(long time);

    /** All that write the topic have ended, the last of them at this time, and what there was is written. */
    void ended(long time) {}
}
