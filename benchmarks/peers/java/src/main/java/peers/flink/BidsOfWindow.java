package peers.flink;

import java.util.Arrays;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * How many bids an auction has in each sliding window: end, auction, count. A bid is counted in
 * one pane of as long as the windows slide, where Flink's own sliding windows would count it in
 * five windows with a timer each.
 */
final class BidsOfWindow extends KeyedProcessFunction<Long, Long, Tuple3<Long, Long, Long>> {
    static final long SIZE = 10_000;
    static final long SLIDE = 2_000;

    private final Tuple3<Long, Long, Long> result = new Tuple3<>();

    /** The start of a pane and its count, by turns. They are few, and in no order. */
    private transient ValueState<long[]> panes;

    @Override
    public void open(OpenContext context) {
        panes = getRuntimeContext().getState(new ValueStateDescriptor<>("panes", Jobs.LONGS));
    }

    @Override
    public void processElement(Long auction, Context context, Collector<Tuple3<Long, Long, Long>> out) throws Exception {
        long time = context.timestamp();
        long start = time - Math.floorMod(time, SLIDE);
        long[] kept = panes.value();
        int at = find(kept, start);
        if (at < 0) {
            at = kept == null ? 0 : kept.length;
            kept = kept == null ? new long[2] : Arrays.copyOf(kept, at + 2);
            kept[at] = start;
            context.timerService().registerEventTimeTimer(start + SLIDE - 1);
        }
        kept[at + 1]++;
        panes.update(kept);
    }

    private static int find(long[] panes, long start) {
        if (panes != null) {
            for (int i = panes.length - 2; i >= 0; i -= 2) {
                if (panes[i] == start) {
                    return i;
                }
            }
        }
        return -1;
    }

    /** A window is over. The pane that leaves goes, and while others of it are left, the next will end. */
    @Override
    public void onTimer(long time, OnTimerContext context, Collector<Tuple3<Long, Long, Long>> out) throws Exception {
        long end = time + 1;
        long[] kept = panes.value();
        long[] left = new long[kept.length];
        int size = 0;
        long count = 0;
        boolean more = false;
        for (int i = 0; i < kept.length; i += 2) {
            boolean of = kept[i] >= end - SIZE && kept[i] < end;
            if (of) {
                count += kept[i + 1];
            }
            if (kept[i] >= end - SIZE + SLIDE) {
                left[size++] = kept[i];
                left[size++] = kept[i + 1];
                more |= of;
            }
        }
        if (size > 0) {
            panes.update(Arrays.copyOf(left, size));
        } else {
            panes.clear();
        }
        if (more) {
            context.timerService().registerEventTimeTimer(time + SLIDE);
        }
        result.setFields(end, context.getCurrentKey(), count);
        out.collect(result);
    }
}
