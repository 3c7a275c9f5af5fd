package peers;

/** What runs jobs, one after the other. */
public interface Engine extends AutoCloseable {
    /**
     * Runs a job until everything that its input had at the start is processed, written and
     * committed. What is returned gives back what the run holds, which is not measured.
     */
    Run.Leftovers run(Run run) throws Exception;
}
