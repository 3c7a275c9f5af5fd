package peers;

import java.nio.file.Path;

/** One run of a job. */
public record Run(String job, String brokers, String in, String out, int parallelism, Path dir) {
    /** What a run leaves behind. */
    @FunctionalInterface
    public interface Leftovers extends AutoCloseable {
        @Override
        void close() throws Exception;
    }
}
