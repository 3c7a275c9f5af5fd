package peers;

import java.nio.file.Path;

/** One run of a job. */
public record Run(String job, String brokers, String in, String out, int parallelism, Path dir) {
    /** The same job over other topics. */
    public Run over(String in, String out) {
        return new Run(job, brokers, in, out, parallelism, dir);
    }

    /** What a run leaves behind. */
    @FunctionalInterface
    public interface Leftovers extends AutoCloseable {
        @Override
        void close() throws Exception;
    }
}
