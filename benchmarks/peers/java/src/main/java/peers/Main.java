package peers;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import peers.flink.FlinkEngine;
import peers.streams.StreamsEngine;

/** One side as a process, as benchmarks/peers/README.md has it: a job warmed up, run and timed. */
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
        Run measured =
                new Run(
                        flag(flags, "job"),
                        flag(flags, "brokers"),
                        flag(flags, "in"),
                        flag(flags, "out"),
                        Integer.parseInt(flag(flags, "parallelism")),
                        Path.of(flag(flags, "dir")).toAbsolutePath());
        try (Engine engine = engine(flag(flags, "engine"), measured)) {
            engine.run(measured.over(flag(flags, "warm-in"), flag(flags, "warm-out"))).close();
            OperatingSystemMXBean system =
                    ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class);
            long cpu = system.getProcessCpuTime();
            long began = System.nanoTime();
            try (Run.Leftovers left = engine.run(measured)) {
                long wall = System.nanoTime() - began;
                cpu = system.getProcessCpuTime() - cpu;
                System.out.println("{\"wall\":" + wall + ",\"cpu\":" + cpu + "}");
            }
        }
    }

    private static Engine engine(String name, Run run) throws Exception {
        return switch (name) {
            case "flink-heap" -> new FlinkEngine(run, false);
            case "flink-rocksdb" -> new FlinkEngine(run, true);
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
