package peers.streams;

import java.util.Properties;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;
import peers.Run;

/**
 * The jobs. Those over "events" need no repartition topic, since the input is keyed by user, and
 * time is that of the one partition, whose events are in order. Those over "nexmark" go through one,
 * by the key that they want, and wait for the slowest partition with a {@link Progress}.
 */
final class Jobs {
    private static final Serde<byte[]> BYTES = Serdes.ByteArray();

    private Jobs() {}

    static Topology build(Run run, int partitions) {
        StreamsBuilder builder = new StreamsBuilder();
        KStream<byte[], byte[]> out =
                switch (run.job()) {
                    case "count" -> count(builder, run);
                    case "distinct" -> distinct(builder, run);
                    case "sessions" -> sessions(builder, run);
                    case "q1" -> trades(builder, run).process(Trades.Currency::new);
                    case "q5" -> q5(builder, run, partitions);
                    case "q8" -> q8(builder, run, partitions);
                    case "q11" -> q11(builder, run, partitions);
                    case "q18" -> q18(builder, run, partitions);
                    default -> throw new IllegalArgumentException("no such job: " + run.job());
                };
        out.to(run.out(), Produced.with(BYTES, BYTES));
        Properties config = new Properties();
        config.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);
        return builder.build(config);
    }

    private static KStream<byte[], byte[]> count(StreamsBuilder builder, Run run) {
        return builder.stream(run.in(), Consumed.with(BYTES, BYTES))
                .process(Stores.processor(UserMinutes::new, Stores.bytes(UserMinutes.COUNTS)));
    }

    private static KStream<byte[], byte[]> sessions(StreamsBuilder builder, Run run) {
        return builder.stream(run.in(), Consumed.with(BYTES, BYTES))
                .process(Stores.processor(UserSessions::new, Stores.store(UserSessions.OPEN, Serdes.String(), BYTES)));
    }

    private static KStream<byte[], byte[]> distinct(StreamsBuilder builder, Run run) {
        return builder.stream(run.in(), Consumed.with(BYTES, BYTES))
                .process(
                        Stores.processor(
                                Distinct::new,
                                Stores.bytes(Distinct.SEEN),
                                Stores.store(Distinct.COUNT, Serdes.String(), Serdes.Long())));
    }

    private static KStream<byte[], byte[]> trades(StreamsBuilder builder, Run run) {
        return builder.stream(run.in(), Consumed.with(BYTES, BYTES));
    }

    private static KStream<byte[], byte[]> q5(StreamsBuilder builder, Run run, int partitions) {
        KStream<Long, byte[]> bids = Shuffle.through(trades(builder, run).process(Trades.BidAuction::new), "a-bids", partitions);
        KStream<Long, byte[]> most =
                bids.process(
                        Stores.processor(
                                () -> new MostOfTask(partitions), Stores.bytes(MostOfTask.PANES), Stores.progress(MostOfTask.PROGRESS)));
        // One partition: it is a record a window and task.
        return Shuffle.through(most, "b-most", 1)
                .process(
                        Stores.processor(
                                () -> new MostOfWindow(partitions),
                                Stores.store(MostOfWindow.MOST, Serdes.Long(), BYTES),
                                Stores.progress(MostOfWindow.PROGRESS)));
    }

    private static KStream<byte[], byte[]> q8(StreamsBuilder builder, Run run, int partitions) {
        return Shuffle.through(trades(builder, run).process(Trades.PersonOrSeller::new), "sellers", partitions)
                .process(
                        Stores.processor(
                                () -> new NewSellers(partitions), Stores.bytes(NewSellers.SELLERS), Stores.progress(NewSellers.PROGRESS)));
    }

    private static KStream<byte[], byte[]> q11(StreamsBuilder builder, Run run, int partitions) {
        return Shuffle.through(trades(builder, run).process(Trades.Bidder::new), "bids", partitions)
                .process(
                        Stores.processor(
                                () -> new BidderSessions(partitions),
                                Stores.store(BidderSessions.OPEN, Serdes.Long(), BYTES),
                                Stores.progress(BidderSessions.PROGRESS)));
    }

    private static KStream<byte[], byte[]> q18(StreamsBuilder builder, Run run, int partitions) {
        return trades(builder, run)
                .process(Trades.KeyedBid::new)
                .repartition(Repartitioned.with(BYTES, BYTES).withName("bids").withNumberOfPartitions(partitions))
                .process(Stores.processor(LastBid::new, Stores.bytes(LastBid.LAST)));
    }
}
