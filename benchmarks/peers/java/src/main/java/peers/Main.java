package peers;

import com.sun.management.OperatingSystemMXBean;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import peers.flink.FlinkEngine;
import peers.streams.StreamsEngine;

/** One side as a process, as benchmarks/peers/README.md has it: a job run and timed when it is ordered. */
public final class Main {
    private Main() {}

    public static void main(String[] args) {
        int status = 0;
        try {
            run(flags(args));
        } catch (Throwable t) {
            t.printStackTrace();
            status = 1;
        }
        System.exit(status); // whatever threads an engine has left
    }

    private static void run(Map<String, String> flags) throws Exception {
        String job = flag(flags, "job");
        String brokers = flag(flags, "brokers");
        int parallelism = Integer.parseInt(flag(flags, "parallelism"));
        Path dir = Path.of(flag(flags, "dir")).toAbsolutePath();
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (Engine engine = engine(flag(flags, "engine"), parallelism, dir)) {
            for (String order = orders.readLine(); order != null; order = orders.readLine()) {
                String[] topics = order.split(" ");
                if (topics.length != 2) {
                    throw new IllegalArgumentException("an order is not two topics: " + order);
                }
                System.out.println(timed(engine, new Run(job, brokers, topics[0], topics[1], parallelism, dir)));
            }
        }
    }

    /** What the run before has left is collected before the clock starts. */
    private static String timed(Engine engine, Run run) throws Exception {
        System.gc();
        OperatingSystemMXBean system = ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class);
        long cpu = system.getProcessCpuTime();
        long began = System.nanoTime();
        try (Run.Leftovers left = engine.run(run)) {
            long wall = System.nanoTime() - began;
            cpu = system.getProcessCpuTime() - cpu;
            return "{\"wall\":" + wall + ",\"cpu\":" + cpu + "}";
        }
    }

    private static Engine engine(String name, int parallelism, Path dir) throws Exception {
        return switch (name) {
            case "flink-heap" -> new FlinkEngine(parallelism, dir, false);
            case "flink-rocksdb" -> new FlinkEngine(parallelism, dir, true);
            case "kafka-streams" -> new StreamsEngine();
            default -> throw new IllegalArgumentException("no such engine: " + name);
        };
    }

    private static Map<String, String> flags(String[] args) {
        if (args.length % 2 != 0) {
            throw new IllegalArgumentException("a flag is without its value: " + args[args.length - 1]);
        }
        Map<String, String> flags = new HashMap<>();
        for (int i = 0; i < args.length; i += 2) {
            flags.put(args[i].replaceFirst("^--?", ""), args[i + 1]);
        }
        return flags;
    }

    private static String flag(Map<String, String> flags, String name) {
        String value = flags.get(name);
        if (value == null) {
            throw new IllegalArgumentException("flag is missing: -" + name);
        }
        return value;
    }
}
