package peers.flink;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.windowing.assigners.EventTimeSessionWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.types.LongValue;
import org.apache.flink.util.Collector;
import peers.Hit;
import peers.Line;
import peers.Run;
import peers.Trade;

/**
 * The jobs, on the DataStream API. What crosses an exchange is a string, a long or a tuple of
 * them, and state is longs and arrays of them: Flink's fastest serializers, none by reflection.
 */
final class Jobs {
    private static final TypeInformation<Text> TEXT = Types.POJO(Text.class);
    static final TypeInformation<long[]> LONGS = PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO;
    static final TypeInformation<LongValue> COUNT = TypeInformation.of(LongValue.class);

    private Jobs() {}

    static void build(StreamExecutionEnvironment env, Run run) {
        DataStream<Text> out =
                switch (run.job()) {
                    case "count" -> count(env, run);
                    case "distinct" -> distinct(env, run);
                    case "sessions" -> sessions(env, run);
                    case "q1" -> q1(env, run);
                    case "q5" -> q5(env, run);
                    case "q8" -> q8(env, run);
                    case "q11" -> q11(env, run);
                    case "q18" -> q18(env, run);
                    default -> throw new IllegalArgumentException("no such job: " + run.job());
                };
        Topics.to(out, run);
    }

    private static DataStream<Text> count(StreamExecutionEnvironment env, Run run) {
        return Topics.hits(env, run, WatermarkStrategy.forMonotonousTimestamps(), Types.STRING, (hit, out) -> out.collect(hit.user))
                .keyBy(user -> user, Types.STRING)
                .window(TumblingEventTimeWindows.of(Duration.ofMinutes(1)))
                .aggregate(new Windows.Count<>(), new Windows.CountText(), COUNT, TEXT);
    }

    private static DataStream<Text> distinct(StreamExecutionEnvironment env, Run run) {
        return Topics.hits(env, run, WatermarkStrategy.noWatermarks(), Types.TUPLE(Types.STRING, Types.STRING), new UserPage())
                .keyBy(hit -> hit.f0, Types.STRING)
                .process(new Distinct(), TEXT);
    }

    private static DataStream<Text> sessions(StreamExecutionEnvironment env, Run run) {
        return Topics.hits(env, run, WatermarkStrategy.forMonotonousTimestamps(), Types.TUPLE(Types.STRING, COUNT), new UserTime())
                .keyBy(hit -> hit.f0, Types.STRING)
                .window(EventTimeSessionWindows.withGap(Duration.ofMinutes(30)))
                .aggregate(new Windows.Session<>(), new Windows.SessionText(), LONGS, TEXT);
    }

    private static DataStream<Text> q1(StreamExecutionEnvironment env, Run run) {
        return Topics.trades(env, run, WatermarkStrategy.noWatermarks(), TEXT, new Currency());
    }

    private static DataStream<Text> q5(StreamExecutionEnvironment env, Run run) {
        return Topics.trades(env, run, WatermarkStrategy.forMonotonousTimestamps(), Types.LONG, new BidAuction())
                .keyBy(auction -> auction, Types.LONG)
                .process(new BidsOfWindow(), Types.TUPLE(Types.LONG, Types.LONG, Types.LONG))
                .transform("most of subtask", Types.TUPLE(Types.LONG, LONGS), new MostOfSubtask())
                .keyBy(most -> most.f0, Types.LONG)
                .process(new MostOfWindow(), TEXT);
    }

    private static DataStream<Text> q8(StreamExecutionEnvironment env, Run run) {
        return Topics.trades(env, run, WatermarkStrategy.forMonotonousTimestamps(), Types.TUPLE(Types.LONG, Types.STRING), new PersonOrSeller())
                .keyBy(one -> one.f0, Types.LONG)
                .window(TumblingEventTimeWindows.of(Duration.ofSeconds(10)))
                .aggregate(new Windows.NewSeller(), new Windows.NewSellerText(), Types.TUPLE(Types.STRING, Types.BOOLEAN), TEXT);
    }

    private static DataStream<Text> q11(StreamExecutionEnvironment env, Run run) {
        return Topics.trades(env, run, WatermarkStrategy.forMonotonousTimestamps(), Types.TUPLE(Types.LONG, COUNT), new BidderTime())
                .keyBy(bid -> bid.f0, Types.LONG)
                .window(EventTimeSessionWindows.withGap(Duration.ofSeconds(10)))
                .aggregate(new Windows.Session<>(), new Windows.BidderText(), LONGS, TEXT);
    }

    private static DataStream<Text> q18(StreamExecutionEnvironment env, Run run) {
        TypeInformation<Tuple2<Long, Long>> key = Types.TUPLE(Types.LONG, Types.LONG);
        return Topics.trades(env, run, WatermarkStrategy.noWatermarks(), Types.TUPLE(key, Types.LONG, Types.LONG), new KeyedBid())
                .keyBy(bid -> bid.f0, key)
                .process(new LastBid(), TEXT);
    }

    // What is taken of an event. Each reuses what it emits: an exchange copies it at once.

    private static final class UserPage implements Topics.Take<Hit, Tuple2<String, String>> {
        private final Tuple2<String, String> taken = new Tuple2<>();

        @Override
        public void take(Hit hit, Collector<Tuple2<String, String>> out) {
            taken.f0 = hit.user;
            taken.f1 = hit.page;
            out.collect(taken);
        }
    }

    private static final class UserTime implements Topics.Take<Hit, Tuple2<String, LongValue>> {
        private final Tuple2<String, LongValue> taken = Tuple2.of("", new LongValue());

        @Override
        public void take(Hit hit, Collector<Tuple2<String, LongValue>> out) {
            taken.f0 = hit.user;
            taken.f1.setValue(hit.time);
            out.collect(taken);
        }
    }

    private static final class Currency implements Topics.Take<Trade, Text> {
        private final Line line = new Line();
        private final Text text = new Text();

        @Override
        public void take(Trade bid, Collector<Text> out) {
            if (bid.type == Trade.BID) {
                line.clear().add(bid.auction).add(bid.bidder).add(bid.price * 908 / 1000).add(bid.time);
                out.collect(text.of(null, line.bytes()));
            }
        }
    }

    private static final class BidAuction implements Topics.Take<Trade, Long> {
        @Override
        public void take(Trade bid, Collector<Long> out) {
            if (bid.type == Trade.BID) {
                out.collect(bid.auction);
            }
        }
    }

    /** A person with the name, or a seller without one. */
    private static final class PersonOrSeller implements Topics.Take<Trade, Tuple2<Long, String>> {
        private final Tuple2<Long, String> taken = new Tuple2<>();

        @Override
        public void take(Trade trade, Collector<Tuple2<Long, String>> out) {
            if (trade.type == Trade.PERSON) {
                taken.f0 = trade.id;
                taken.f1 = trade.name;
                out.collect(taken);
            } else if (trade.type == Trade.AUCTION) {
                taken.f0 = trade.seller;
                taken.f1 = "";
                out.collect(taken);
            }
        }
    }

    private static final class BidderTime implements Topics.Take<Trade, Tuple2<Long, LongValue>> {
        private final Tuple2<Long, LongValue> taken = Tuple2.of(0L, new LongValue());

        @Override
        public void take(Trade bid, Collector<Tuple2<Long, LongValue>> out) {
            if (bid.type == Trade.BID) {
                taken.f0 = bid.bidder;
                taken.f1.setValue(bid.time);
                out.collect(taken);
            }
        }
    }

    private static final class KeyedBid implements Topics.Take<Trade, Tuple3<Tuple2<Long, Long>, Long, Long>> {
        private final Tuple3<Tuple2<Long, Long>, Long, Long> taken = Tuple3.of(new Tuple2<>(), 0L, 0L);

        @Override
        public void take(Trade bid, Collector<Tuple3<Tuple2<Long, Long>, Long, Long>> out) {
            if (bid.type == Trade.BID) {
                taken.f0.f0 = bid.bidder;
                taken.f0.f1 = bid.auction;
                taken.f1 = bid.time;
                taken.f2 = bid.price;
                out.collect(taken);
            }
        }
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
