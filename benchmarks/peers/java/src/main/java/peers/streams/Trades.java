package peers.streams;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import peers.Line;
import peers.Trade;

/** What is taken of the events of "nexmark", by the tasks that read it. */
final class Trades {
    private Trades() {}

    /** Parses into one event that is used again and again. */
    abstract static class Reader<K> extends ContextualProcessor<byte[], byte[], K, byte[]> {
        private final Trade trade = new Trade();

        @Override
        public void process(Record<byte[], byte[]> record) {
            try {
                trade.parse(record.value());
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            take(trade);
        }

        abstract void take(Trade trade);

        void forward(K key, byte[] value, long time) {
            context().forward(new Record<>(key, value, time));
        }

        /** A value of this size, with the task's number in its first byte. */
        byte[] value(int size) {
            byte[] value = new byte[size];
            value[0] = (byte) context().taskId().partition();
            return value;
        }
    }

    static final class Currency extends Reader<byte[]> {
        private final Line line = new Line();

        @Override
        void take(Trade bid) {
            if (bid.type == Trade.BID) {
                line.clear().add(bid.auction).add(bid.bidder).add(bid.price * 908 / 1000).add(bid.time);
                forward(null, line.bytes(), bid.time);
            }
        }
    }

    static final class BidAuction extends Reader<Long> {
        @Override
        void take(Trade bid) {
            if (bid.type == Trade.BID) {
                forward(bid.auction, value(1), bid.time);
            } else if (bid.type == Trade.CLOSE) {
                forward(Shuffle.END, value(1), bid.time);
            }
        }
    }

    static final class Bidder extends Reader<Long> {
        @Override
        void take(Trade bid) {
            if (bid.type == Trade.BID) {
                forward(bid.bidder, value(1), bid.time);
            } else if (bid.type == Trade.CLOSE) {
                forward(Shuffle.END, value(1), bid.time);
            }
        }
    }

    /** A person with the name, or a seller without one. */
    static final class PersonOrSeller extends Reader<Long> {
        @Override
        void take(Trade trade) {
            if (trade.type == Trade.PERSON) {
                byte[] name = trade.name.getBytes(StandardCharsets.UTF_8);
                byte[] value = value(1 + name.length);
                System.arraycopy(name, 0, value, 1, name.length);
                forward(trade.id, value, trade.time);
            } else if (trade.type == Trade.AUCTION) {
                forward(trade.seller, value(1), trade.time);
            } else if (trade.type == Trade.CLOSE) {
                forward(Shuffle.END, value(1), trade.time);
            }
        }
    }

    static final class KeyedBid extends Reader<byte[]> {
        @Override
        void take(Trade bid) {
            if (bid.type == Trade.BID) {
                forward(Longs.of(bid.bidder, bid.auction), Longs.of(bid.time, bid.price), bid.time);
            }
        }
    }
}
