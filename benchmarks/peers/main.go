package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// config is the size of a run.
type config struct {
	brokers []string
	jobs    []job
	sides   []side
	records int
	keys    int
	warm    int
	rounds  int
	java    string // the folder of the sides in Java

	profiles string // the folder for profiles; "": none
}

func main() {
	var t task
	brokers := flag.String("brokers", os.Getenv("MILLRACE_KAFKA_BROKERS"), "brokers to use, `host:port`, separated by commas (default: $MILLRACE_KAFKA_BROKERS)")
	c := config{}
	chosenJobs := flag.String("jobs", namesOf(jobs, func(j job) string { return j.name }), "jobs to run, separated by commas")
	chosenSides := flag.String("sides", namesOf(sides, func(s side) string { return s.name }), "sides to run, separated by commas; the first one is what the others' results are compared with")
	flag.IntVar(&c.records, "records", 400_000, "records of each of the two inputs")
	flag.IntVar(&c.keys, "keys", 5_000, "different users of the events")
	flag.IntVar(&c.warm, "warm", 30_000, "records to warm up with")
	flag.IntVar(&c.rounds, "rounds", 3, "how often each side runs")
	flag.StringVar(&c.java, "java", "benchmarks/peers/java", "`folder` of the sides in Java")
	flag.StringVar(&c.profiles, "profiles", "", "`folder` to write processor profiles of the sides in Go to")
	out := flag.String("json", "", "`file` to write the results to")
	one := flag.String("side", "", "run this side alone, by the contract in README.md; the flags below are for this")
	flag.StringVar(&t.job, "job", "", "with -side: the job")
	flag.IntVar(&t.parallelism, "parallelism", 2, "parallelism of the sides that have such a thing")
	flag.StringVar(&t.dir, "dir", "", "with -side: the `folder` for state and checkpoints")
	profile := flag.String("profile", "", "with -side: `file` to write a profile of the last run to")
	flag.Parse()

	c.brokers = strings.Split(*brokers, ",")
	t.brokers = c.brokers
	var err error
	switch {
	case *one != "":
		err = t.serve(*one, *profile)
	default:
		err = c.choose(*brokers, *chosenJobs, *chosenSides)
		if err == nil {
			err = compare(c, t.parallelism, *out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// choose takes jobs and sides by name.
func (c *config) choose(brokers, jobs, sides string) error {
	var errs []error
	for name := range strings.SplitSeq(jobs, ",") {
		if j, ok := jobNamed(name); ok {
			c.jobs = append(c.jobs, j)
		} else {
			errs = append(errs, fmt.Errorf("-jobs: there is no %q", name))
		}
	}
	for name := range strings.SplitSeq(sides, ",") {
		if s, ok := sideNamed(name); ok {
			c.sides = append(c.sides, s)
			errs = append(errs, c.built(s))
		} else {
			errs = append(errs, fmt.Errorf("-sides: there is no %q", name))
		}
	}
	if brokers == "" || flag.NArg() > 0 {
		errs = append(errs, errors.New("-brokers must name some, and there are no arguments"))
	}
	if min(c.records, c.keys, c.warm, c.rounds) < 1 {
		errs = append(errs, errors.New("-records, -keys, -warm and -rounds must be positive"))
	}
	return errors.Join(errs...)
}

// built says what to do where a side is not there.
func (c *config) built(s side) error {
	if s.command == nil {
		return nil
	}
	_, err := os.Stat(filepath.Join(c.java, "run.sh"))
	if jars, _ := filepath.Glob(filepath.Join(c.java, "target", "*.jar")); err == nil && len(jars) > 0 {
		return nil
	}
	return fmt.Errorf("%s is not built: run mvn -q -f %s package, or leave it out with -sides", s.name, filepath.Join(c.java, "pom.xml"))
}
