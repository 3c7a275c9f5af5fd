package peers.flink;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import peers.Line;

/** The pages that a user has seen for the first time. The set is a map state, the count is apart. */
final class Distinct extends KeyedProcessFunction<String, Tuple2<String, String>, Text> {
    private final Line line = new Line();
    private final Text text = new Text();
    private transient MapState<String, Boolean> seen;
    private transient ValueState<Long> count;

    @Override
    public void open(OpenContext context) {
        seen = getRuntimeContext().getMapState(new MapStateDescriptor<>("seen", Types.STRING, Types.BOOLEAN));
        count = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Types.LONG));
    }

    @Override
    public void processElement(Tuple2<String, String> hit, Context context, Collector<Text> out) throws Exception {
        if (seen.contains(hit.f1)) {
            return;
        }
        seen.put(hit.f1, true);
        Long before = count.value();
        long n = before == null ? 1 : before + 1;
        count.update(n);
        out.collect(text.of(Jobs.utf8(hit.f0), line.clear().add(n).bytes()));
    }
}
