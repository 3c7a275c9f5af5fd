package peers.streams;

import java.util.Set;
import java.util.function.Supplier;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;

/** A processor with its stores: Kafka Streams' default ones, RocksDB with a changelog, cached. */
final class Stores {
    private Stores() {}

    static <K, V> StoreBuilder<KeyValueStore<K, V>> store(String name, Serde<K> key, Serde<V> value) {
        return org.apache.kafka.streams.state.Stores.keyValueStoreBuilder(
                        org.apache.kafka.streams.state.Stores.persistentKeyValueStore(name), key, value)
                .withCachingEnabled();
    }

    static StoreBuilder<KeyValueStore<byte[], byte[]>> bytes(String name) {
        return store(name, Serdes.ByteArray(), Serdes.ByteArray());
    }

    static StoreBuilder<KeyValueStore<Long, Long>> progress(String name) {
        return store(name, Serdes.Long(), Serdes.Long());
    }

    static <KI, VI, KO, VO> ProcessorSupplier<KI, VI, KO, VO> processor(
            Supplier<Processor<KI, VI, KO, VO>> processor, StoreBuilder<?>... stores) {
        return new ProcessorSupplier<>() {
            @Override
            public Processor<KI, VI, KO, VO> get() {
                return processor.get();
            }

            @Override
            public Set<StoreBuilder<?>> stores() {
                return Set.of(stores);
            }
        };
    }
}
