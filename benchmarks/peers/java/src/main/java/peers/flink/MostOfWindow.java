package peers.flink;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import peers.Line;

/** The auctions with the most bids of a window, out of those of the subtasks. */
final class MostOfWindow extends KeyedProcessFunction<Long, Tuple2<Long, long[]>, Text> {
    private final Line line = new Line();
    private final Text text = new Text();
    private transient ValueState<long[]> most;

    @Override
    public void open(OpenContext context) {
        most = getRuntimeContext().getState(new ValueStateDescriptor<>("most", Jobs.LONGS));
    }

    @Override
    public void processElement(Tuple2<Long, long[]> one, Context context, Collector<Text> out) throws Exception {
        long[] kept = most.value();
        if (kept == null) {
            context.timerService().registerEventTimeTimer(one.f0 - 1);
        }
        most.update(kept == null ? one.f1 : MostOfSubtask.larger(kept, one.f1));
    }

    @Override
    public void onTimer(long time, OnTimerContext context, Collector<Text> out) throws Exception {
        long[] kept = most.value();
        most.clear();
        for (int i = 1; i < kept.length; i++) {
            line.clear().add(time + 1).add(kept[i]).add(kept[0]);
            out.collect(text.of(null, line.bytes()));
        }
    }
}
