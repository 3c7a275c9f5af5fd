package peers.flink;

import java.io.IOException;
import java.io.Serializable;
import java.util.UUID;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import peers.Hit;
import peers.Run;
import peers.Trade;

/** The topics that a job reads and writes. */
final class Topics {
    private Topics() {}

    /** Takes out of an event what a job wants of it. */
    interface Take<E, T> extends Serializable {
        void take(E event, Collector<T> out);
    }

    static <T> DataStream<T> hits(
            StreamExecutionEnvironment env, Run run, WatermarkStrategy<T> watermarks, TypeInformation<T> type, Take<Hit, T> take) {
        return from(env, run, watermarks, new Hits<>(type, take));
    }

    static <T> DataStream<T> trades(
            StreamExecutionEnvironment env, Run run, WatermarkStrategy<T> watermarks, TypeInformation<T> type, Take<Trade, T> take) {
        return from(env, run, watermarks, new Trades<>(type, take));
    }

    /** An event's time is that of the record, and watermarks are per partition. */
    private static <T> DataStream<T> from(
            StreamExecutionEnvironment env, Run run, WatermarkStrategy<T> watermarks, KafkaRecordDeserializationSchema<T> schema) {
        KafkaSource<T> source =
                KafkaSource.<T>builder()
                        .setBootstrapServers(run.brokers())
                        .setTopics(run.in())
                        .setGroupId("peers-flink-" + UUID.randomUUID())
                        .setStartingOffsets(OffsetsInitializer.earliest())
                        .setBounded(OffsetsInitializer.latest())
                        .setProperty("isolation.level", "read_committed")
                        // 500 by default: the reader hands over polls one by one.
                        .setProperty("max.poll.records", "4000")
                        .setDeserializer(schema)
                        .build();
        return env.fromSource(source, watermarks, "in", schema.getProducedType());
    }

    static void to(DataStream<Text> lines, Run run) {
        KafkaSink<Text> sink =
                KafkaSink.<Text>builder()
                        .setBootstrapServers(run.brokers())
                        .setRecordSerializer(new Write(run.out()))
                        .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                        .setTransactionalIdPrefix("peers-flink-" + UUID.randomUUID())
                        // Brokers allow 15 minutes, and Flink asks for an hour by default.
                        .setProperty("transaction.timeout.ms", "600000")
                        .setProperty("batch.size", "131072")
                        .setProperty("linger.ms", "20")
                        .build();
        lines.sinkTo(sink).name("out");
    }

    private static final class Hits<T> implements KafkaRecordDeserializationSchema<T> {
        private final TypeInformation<T> type;
        private final Take<Hit, T> take;
        private transient Hit hit;

        Hits(TypeInformation<T> type, Take<Hit, T> take) {
            this.type = type;
            this.take = take;
        }

        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<T> out) throws IOException {
            if (hit == null) {
                hit = new Hit();
            }
            hit.parse(record.value());
            take.take(hit, out);
        }

        @Override
        public TypeInformation<T> getProducedType() {
            return type;
        }
    }

    private static final class Trades<T> implements KafkaRecordDeserializationSchema<T> {
        private final TypeInformation<T> type;
        private final Take<Trade, T> take;
        private transient Trade trade;

        Trades(TypeInformation<T> type, Take<Trade, T> take) {
            this.type = type;
            this.take = take;
        }

        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<T> out) throws IOException {
            if (trade == null) {
                trade = new Trade();
            }
            trade.parse(record.value());
            take.take(trade, out);
        }

        @Override
        public TypeInformation<T> getProducedType() {
            return type;
        }
    }

    private static final class Write implements KafkaRecordSerializationSchema<Text> {
        private final String topic;

        Write(String topic) {
            this.topic = topic;
        }

        @Override
        public ProducerRecord<byte[], byte[]> serialize(Text text, KafkaSinkContext context, Long time) {
            return new ProducerRecord<>(topic, text.key, text.value);
        }
    }
}
