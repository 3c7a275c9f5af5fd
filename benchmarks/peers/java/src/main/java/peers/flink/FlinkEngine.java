package peers.flink;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.JobManagerOptions;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.RestOptions;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.minicluster.MiniClusterConfiguration;
import org.apache.flink.runtime.minicluster.RpcServiceSharing;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import peers.Engine;
import peers.Run;

/**
 * Flink on a cluster in this process: one task manager with as many slots as the job has
 * parallelism, so that all exchanges are local and memory is bounded once. The cluster is started
 * before anything is measured.
 */
public final class FlinkEngine implements Engine {
    private final Configuration config;
    private final MiniCluster cluster;

    public FlinkEngine(int parallelism, Path dir, boolean rocksdb) throws Exception {
        config = configuration(dir, rocksdb);
        cluster =
                new MiniCluster(
                        new MiniClusterConfiguration.Builder()
                                .setConfiguration(config)
                                .setNumTaskManagers(1)
                                .setNumSlotsPerTaskManager(parallelism)
                                .setRpcServiceSharing(RpcServiceSharing.SHARED)
                                .withRandomPorts()
                                .build());
        cluster.start();
    }

    @Override
    public Run.Leftovers run(Run run) throws Exception {
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(config);
        env.setParallelism(run.parallelism());
        Jobs.build(env, run);
        // Returns after the last checkpoint, with which the last transactions are committed.
        cluster.executeJobBlocking(env.getStreamGraph().getJobGraph());
        return () -> {};
    }

    @Override
    public void close() throws Exception {
        cluster.close();
    }

    private static Configuration configuration(Path dir, boolean rocksdb) {
        Configuration c = new Configuration();
        c.set(PipelineOptions.OBJECT_REUSE, true);
        c.set(PipelineOptions.GENERIC_TYPES, false); // Kryo would be a mistake: fail
        c.set(CheckpointingOptions.CHECKPOINTING_INTERVAL, Duration.ofSeconds(1));
        c.set(CheckpointingOptions.CHECKPOINTING_CONSISTENCY_MODE, CheckpointingMode.EXACTLY_ONCE);
        c.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
        c.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, dir.resolve("checkpoints").toUri().toString());
        c.set(RestartStrategyOptions.RESTART_STRATEGY, "none"); // a failure is to be seen
        c.set(TaskManagerOptions.MANAGED_MEMORY_SIZE, MemorySize.ofMebiBytes(256));
        c.set(TaskManagerOptions.NETWORK_MEMORY_MIN, MemorySize.ofMebiBytes(64));
        c.set(TaskManagerOptions.NETWORK_MEMORY_MAX, MemorySize.ofMebiBytes(64));
        c.set(TaskManagerOptions.BIND_HOST, "127.0.0.1");
        c.set(JobManagerOptions.BIND_HOST, "127.0.0.1");
        c.set(RestOptions.BIND_ADDRESS, "127.0.0.1");
        if (rocksdb) {
            rocksdb(c, dir);
        } else {
            c.set(StateBackendOptions.STATE_BACKEND, "hashmap");
        }
        return c;
    }

    private static void rocksdb(Configuration c, Path dir) {
        c.set(StateBackendOptions.STATE_BACKEND, "rocksdb");
        c.set(CheckpointingOptions.INCREMENTAL_CHECKPOINTS, true);
        Map.of(
                        "state.backend.rocksdb.localdir", dir.resolve("rocksdb").toString(),
                        // Timers on the heap: there are few at a time, and each costs RocksDB a
                        // write and a delete.
                        "state.backend.rocksdb.timer-service.factory", "HEAP",
                        "state.backend.rocksdb.use-bloom-filter", "true")
                .forEach(c::setString);
    }
}
