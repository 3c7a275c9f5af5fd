package peers.flink;

import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.windowing.WindowFunction;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.types.LongValue;
import org.apache.flink.util.Collector;
import peers.Line;

/**
 * What is gathered in windows, and how it is written. Accumulators are changed in place, which
 * both backends allow of an aggregate that returns the one it was given.
 */
final class Windows {
    private Windows() {}

    static final class Count<T> implements AggregateFunction<T, LongValue, LongValue> {
        @Override
        public LongValue createAccumulator() {
            return new LongValue();
        }

        @Override
        public LongValue add(T one, LongValue count) {
            count.setValue(count.getValue() + 1);
            return count;
        }

        @Override
        public LongValue getResult(LongValue count) {
            return count;
        }

        @Override
        public LongValue merge(LongValue a, LongValue b) {
            a.setValue(a.getValue() + b.getValue());
            return a;
        }
    }

    static final class CountText implements WindowFunction<LongValue, Text, String, TimeWindow> {
        private final Line line = new Line();
        private final Text text = new Text();

        @Override
        public void apply(String user, TimeWindow window, Iterable<LongValue> count, Collector<Text> out) {
            line.clear().add(window.getStart()).add(count.iterator().next().getValue());
            out.collect(text.of(Jobs.utf8(user), line.bytes()));
        }
    }

    /** Gathers the first time, the last and how many. */
    static final class Session<K> implements AggregateFunction<Tuple2<K, LongValue>, long[], long[]> {
        @Override
        public long[] createAccumulator() {
            return new long[] {Long.MAX_VALUE, Long.MIN_VALUE, 0};
        }

        @Override
        public long[] add(Tuple2<K, LongValue> one, long[] session) {
            long time = one.f1.getValue();
            session[0] = Math.min(session[0], time);
            session[1] = Math.max(session[1], time);
            session[2]++;
            return session;
        }

        @Override
        public long[] getResult(long[] session) {
            return session;
        }

        @Override
        public long[] merge(long[] a, long[] b) {
            a[0] = Math.min(a[0], b[0]);
            a[1] = Math.max(a[1], b[1]);
            a[2] += b[2];
            return a;
        }
    }

    static final class SessionText implements WindowFunction<long[], Text, String, TimeWindow> {
        private final Line line = new Line();
        private final Text text = new Text();

        @Override
        public void apply(String user, TimeWindow window, Iterable<long[]> sessions, Collector<Text> out) {
            long[] session = sessions.iterator().next();
            line.clear().add(session[0]).add(session[1]).add(session[2]);
            out.collect(text.of(Jobs.utf8(user), line.bytes()));
        }
    }

    static final class BidderText implements WindowFunction<long[], Text, Long, TimeWindow> {
        private final Line line = new Line();
        private final Text text = new Text();

        @Override
        public void apply(Long bidder, TimeWindow window, Iterable<long[]> sessions, Collector<Text> out) {
            long[] session = sessions.iterator().next();
            line.clear().add(bidder).add(session[0]).add(session[1]).add(session[2]);
            out.collect(text.of(null, line.bytes()));
        }
    }

    /** Gathers the name, if the person registered, and whether there was an auction. */
    static final class NewSeller implements AggregateFunction<Tuple2<Long, String>, Tuple2<String, Boolean>, Tuple2<String, Boolean>> {
        @Override
        public Tuple2<String, Boolean> createAccumulator() {
            return Tuple2.of("", false);
        }

        @Override
        public Tuple2<String, Boolean> add(Tuple2<Long, String> one, Tuple2<String, Boolean> seller) {
            if (one.f1.isEmpty()) {
                seller.f1 = true;
            } else {
                seller.f0 = one.f1;
            }
            return seller;
        }

        @Override
        public Tuple2<String, Boolean> getResult(Tuple2<String, Boolean> seller) {
            return seller;
        }

        @Override
        public Tuple2<String, Boolean> merge(Tuple2<String, Boolean> a, Tuple2<String, Boolean> b) {
            a.f0 = a.f0.isEmpty() ? b.f0 : a.f0;
            a.f1 = a.f1 || b.f1;
            return a;
        }
    }

    static final class NewSellerText implements WindowFunction<Tuple2<String, Boolean>, Text, Long, TimeWindow> {
        private final Line line = new Line();
        private final Text text = new Text();

        @Override
        public void apply(Long person, TimeWindow window, Iterable<Tuple2<String, Boolean>> sellers, Collector<Text> out) {
            Tuple2<String, Boolean> seller = sellers.iterator().next();
            if (!seller.f0.isEmpty() && seller.f1) {
                line.clear().add(window.getStart()).add(person).add(seller.f0);
                out.collect(text.of(null, line.bytes()));
            }
        }
    }
}
