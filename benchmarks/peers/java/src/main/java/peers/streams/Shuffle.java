package peers.streams;

import java.util.Optional;
import java.util.Set;
import java.util.stream.IntStream;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Repartitioned;

/**
 * Records on their way through a repartition topic. Their key is an id, the first byte of the value
 * is the number of the task that wrote them, their time is the event's. The one with the key
 * {@link #END} says that this task has ended, and goes to every partition.
 */
final class Shuffle {
    static final long END = -1;

    private Shuffle() {}

    static KStream<Long, byte[]> through(KStream<Long, byte[]> records, String name, int partitions) {
        var all = Optional.of(IntStream.range(0, partitions).boxed().collect(java.util.stream.Collectors.toSet()));
        var each = IntStream.range(0, partitions).mapToObj(p -> Optional.of(Set.of(p))).toList();
        return records.repartition(
                Repartitioned.with(Serdes.Long(), Serdes.ByteArray())
                        .withName(name)
                        .withNumberOfPartitions(partitions)
                        .withStreamPartitioner((topic, key, value, n) -> key == END ? all : each.get(partition(key, n))));
    }

    private static int partition(long key, int partitions) {
        return (int) Math.floorMod(key * 0x9E3779B97F4A7C15L >> 32, (long) partitions);
    }
}
