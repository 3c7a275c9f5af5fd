package peers;

/** What runs jobs. It lives through the warming up and the run that is measured. */
public interface Engine extends AutoCloseable {
    /**
     * Runs a job until everything that its input had at the start is processed, written and
     * committed. What is returned gives back what the run holds, which is not measured.
     */
    Run.Leftovers run(Run run) throws Exception;
}
