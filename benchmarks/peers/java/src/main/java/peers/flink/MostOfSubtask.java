package peers.flink;

import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;

/**
 * Keeps of the counts of a window's auctions the largest of this subtask, so that only these cross
 * the exchange: end; count and the auctions that have it.
 *
 * <p>It needs no state. The counts come out of the timers that a watermark fires, and the watermark
 * itself comes right after them, in the same chain: between the two there is no barrier.
 */
final class MostOfSubtask extends AbstractStreamOperator<Tuple2<Long, long[]>>
        implements OneInputStreamOperator<Tuple3<Long, Long, Long>, Tuple2<Long, long[]>> {
    private transient Map<Long, long[]> most;
    private transient StreamRecord<Tuple2<Long, long[]>> result;

    @Override
    public void open() throws Exception {
        super.open();
        most = new HashMap<>();
        result = new StreamRecord<>(new Tuple2<>());
    }

    @Override
    public void processElement(StreamRecord<Tuple3<Long, Long, Long>> record) {
        Tuple3<Long, Long, Long> one = record.getValue();
        long[] kept = most.get(one.f0);
        if (kept == null || one.f2 >= kept[0]) {
            most.merge(one.f0, new long[] {one.f2, one.f1}, MostOfSubtask::larger);
        }
    }

    @Override
    public void processWatermark(Watermark mark) throws Exception {
        for (Map.Entry<Long, long[]> window : most.entrySet()) {
            result.getValue().setFields(window.getKey(), window.getValue());
            result.setTimestamp(window.getKey() - 1);
            output.collect(result);
        }
        most.clear();
        super.processWatermark(mark);
    }

    @Override
    public void snapshotState(StateSnapshotContext context) throws Exception {
        super.snapshotState(context);
        if (!most.isEmpty()) {
            throw new IllegalStateException("a barrier came between timers and their watermark");
        }
    }

    /** The one with more bids, or with as many the auctions of both. */
    static long[] larger(long[] a, long[] b) {
        if (a[0] != b[0]) {
            return a[0] > b[0] ? a : b;
        }
        long[] both = Arrays.copyOf(a, a.length + b.length - 1);
        System.arraycopy(b, 1, both, a.length, b.length - 1);
        return both;
    }
}
