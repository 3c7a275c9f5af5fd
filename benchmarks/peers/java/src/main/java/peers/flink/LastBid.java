package peers.flink;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import peers.Line;

/** The last bid of a bidder for an auction: time and price. */
final class LastBid extends KeyedProcessFunction<Tuple2<Long, Long>, Tuple3<Tuple2<Long, Long>, Long, Long>, Text> {
    private final Line line = new Line();
    private final Text text = new Text();
    private transient ValueState<long[]> last;

    @Override
    public void open(OpenContext context) {
        last = getRuntimeContext().getState(new ValueStateDescriptor<>("last", Jobs.LONGS));
    }

    @Override
    public void processElement(Tuple3<Tuple2<Long, Long>, Long, Long> bid, Context context, Collector<Text> out) throws Exception {
        long time = bid.f1;
        long price = bid.f2;
        long[] kept = last.value();
        if (kept != null && (time < kept[0] || time == kept[0] && price <= kept[1])) {
            return;
        }
        last.update(new long[] {time, price});
        byte[] key = line.clear().add(bid.f0.f0).add(bid.f0.f1).bytes();
        out.collect(text.of(key, line.clear().add(time).add(price).bytes()));
    }
}
