package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// config is what the flags say.
type config struct {
	input, format, output string
	overwrite             bool
	trackingID            string

	around func(pipeline.Source[Event]) pipeline.Source[Event] // of a test, or nil

	parallelism, batchSize          int
	outOfOrderness, allowedLateness time.Duration
	dedupeHorizon                   time.Duration

	sessionGap   time.Duration
	splitByDay   bool
	location     *time.Location
	maxPath      int
	breakdowns   []breakdown
	topPages     int
	hllPrecision uint8
	funnels      []Funnel
	countries    *maxminddb.Reader

	recovery

	graph   graphFormat
	demo    bool
	demoFor time.Duration

	generate string
	traffic  int64

	times span // the plausible event times
}

// maxParallelism is the number of key groups that a job has by default.
const maxParallelism = 128

var errHelp = flag.ErrHelp

const usage = `Usage:

  webanalytics -input 'FILE|GLOB' -format events|accesslog|tsv -output DIR [flags]
  webanalytics -demo [flags]
  webanalytics -generate FILE [-events N]

Counts page views, visitors, sessions and the ways visitors take, in event time.

Flags:
`

// parseFlags reads, checks and prepares everything that can be wrong before
// the job starts. Errors are of one line.
func parseFlags(args []string, help io.Writer) (*config, error) {
	cfg := &config{times: plausible(time.Now())}
	var timezone, funnel, geoip, by string
	var precision int
	f := flag.NewFlagSet("webanalytics", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&cfg.input, "input", "", "`file` to read, or a quoted pattern; gzip and zstd are recognised")
	f.StringVar(&cfg.format, "format", "events", "of the input: events (JSON lines), accesslog (Common or Combined Log `Format`),\nor tsv (an access log as tab-separated values with a header line)")
	f.StringVar(&cfg.output, "output", "", "`folder` for the results, made where it is missing")
	f.BoolVar(&cfg.overwrite, "overwrite", false, "replace results that are in the folder")
	f.StringVar(&cfg.trackingID, "tracking-id", "site", "the `id` of the site that an access log is of")
	f.IntVar(&cfg.parallelism, "parallelism", runtime.GOMAXPROCS(0), "subtasks of every operator")
	f.IntVar(&cfg.batchSize, "batch-size", 256, "records that travel together at most")
	f.DurationVar(&cfg.outOfOrderness, "out-of-orderness", 10*time.Second, "how far events may be behind the newest of their file; what is\nfurther behind is late")
	f.DurationVar(&cfg.allowedLateness, "allowed-lateness", 0, "how late events may be and still correct the metrics (not the sessions)")
	f.DurationVar(&cfg.dedupeHorizon, "dedupe-horizon", 24*time.Hour, "event time within which the same event_id is a duplicate")
	f.DurationVar(&cfg.sessionGap, "session-gap", 30*time.Minute, "the longest pause within a session")
	f.BoolVar(&cfg.splitByDay, "split-sessions-by-day", false, "end sessions at midnight in the time zone")
	f.StringVar(&timezone, "timezone", "UTC", "`zone` of days, as Europe/Berlin")
	f.IntVar(&cfg.maxPath, "max-path", 1000, "`pages` of a session's path that are kept")
	f.StringVar(&by, "dimensions", "", "what metrics are broken down by, as in device_type,browser+os,page_url; of\n"+
		strings.Join(dimensionNames(), ", ")+"\n(default device_type,page_url, and country where there is -geoip)")
	f.IntVar(&cfg.topPages, "top-pages", 20, "`pages` of each window that page_url gives")
	f.IntVar(&precision, "hll-precision", 18, "`bits` of the uv estimate, 4 to 18: its error is 1.04/√2^bits, that is 0.2 %\nat 18, 0.4 % at 16 and 0.8 % at 14, and next to none for small windows")
	f.StringVar(&funnel, "funnel", "", "`file` that describes funnels, see README.md")
	f.StringVar(&geoip, "geoip", "", "MaxMind country or city `file`, for the dimension country")
	cfg.recoveryFlags(f)
	f.Var(&cfg.graph, "graph", "print the graph, as text, or with =mermaid or =json, and exit")
	f.BoolVar(&cfg.demo, "demo", false, "read generated traffic instead, for some 20 s")
	f.DurationVar(&cfg.demoFor, "demo-for", 20*time.Second, "wall time of the demo")
	f.StringVar(&cfg.generate, "generate", "", "write traffic like the demo's to a `file`, as events, and exit")
	f.Int64Var(&cfg.traffic, "events", 2_000_000, "how many events -generate writes")

	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(help, usage)
			f.SetOutput(help)
			f.PrintDefaults()
			return nil, err
		}
		return nil, fmt.Errorf("%w (see -help)", err)
	}
	cfg.hllPrecision = uint8(min(max(precision, 0), 255))
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if err := cfg.check(f.Args(), given, precision); err != nil {
		return nil, err
	}
	return cfg, cfg.load(timezone, funnel, geoip, by, given["dimensions"])
}

// check looks at what the flags say by themselves.
func (c *config) check(rest []string, given map[string]bool, precision int) error {
	formats := []string{"events", "accesslog", "tsv"}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q (quote a pattern, so that the shell leaves it alone)", rest[0])
	case c.generate != "" && (c.demo || given["input"] || given["output"]):
		return errors.New("-generate goes with -events alone")
	case c.generate != "" && c.traffic < 1:
		return fmt.Errorf("-events: %d is less than 1", c.traffic)
	case c.generate != "":
		return nil
	case c.demo && given["input"]:
		return errors.New("-demo and -input exclude each other")
	case !c.demo && c.graph == "" && c.input == "":
		return errors.New("-input is missing (see -help, or try -demo)")
	case !c.demo && c.graph == "" && c.output == "":
		return errors.New("-output is missing")
	case !slices.Contains(formats, c.format):
		return fmt.Errorf("-format: %q is not one of %s", c.format, strings.Join(formats, ", "))
	case c.demo && given["format"]:
		return errors.New("-demo and -format exclude each other")
	case c.trackingID == "":
		return errors.New("-tracking-id is empty")
	case precision < 4 || precision > 18:
		return fmt.Errorf("-hll-precision: %d is not between 4 and 18", precision)
	}
	for _, n := range []struct {
		name    string
		n, most int
	}{
		{"parallelism", c.parallelism, maxParallelism}, {"batch-size", c.batchSize, 1_000_000},
		{"max-path", c.maxPath, 1_000_000}, {"top-pages", c.topPages, 1_000_000},
		{"state-memory", c.stateMemory, 1_000_000},
	} {
		switch {
		case n.n < 1:
			return fmt.Errorf("-%s: %d is less than 1", n.name, n.n)
		case n.n > n.most:
			return fmt.Errorf("-%s: %d is more than %d", n.name, n.n, n.most)
		}
	}
	for _, d := range []struct {
		name     string
		d, least time.Duration
	}{
		{"out-of-orderness", c.outOfOrderness, 0}, {"allowed-lateness", c.allowedLateness, 0},
		{"dedupe-horizon", c.dedupeHorizon, time.Millisecond}, {"session-gap", c.sessionGap, time.Millisecond},
		{"demo-for", c.demoFor, time.Millisecond}, {"checkpoint-interval", c.interval, time.Millisecond},
	} {
		switch {
		case d.d < d.least:
			return fmt.Errorf("-%s: %v is less than %v", d.name, d.d, d.least)
		case d.d%time.Millisecond != 0:
			return fmt.Errorf("-%s: %v is not a whole number of milliseconds", d.name, d.d)
		}
	}
	return c.recovery.check(c, given)
}

// load reads what flags name.
func (c *config) load(timezone, funnel, geoip, by string, byGiven bool) (err error) {
	if c.location, err = time.LoadLocation(timezone); err != nil || timezone == "" {
		return fmt.Errorf("-timezone: %q is not known", timezone)
	}
	if c.demo {
		c.funnels = demoFunnels()
	}
	if funnel != "" {
		if c.funnels, err = readFunnels(funnel); err != nil {
			return fmt.Errorf("-funnel: %w", err)
		}
	}
	switch {
	case byGiven:
	case geoip != "":
		by = "device_type,country," + pageURL
	default:
		by = "device_type," + pageURL
	}
	if c.breakdowns, err = parseBreakdowns(by); err != nil {
		return fmt.Errorf("-dimensions: %w", err)
	}
	if geoip == "" && slices.ContainsFunc(c.breakdowns, func(b breakdown) bool { return b.has("country") }) {
		return errors.New("-dimensions: country needs -geoip")
	}
	if geoip != "" {
		if c.countries, err = maxminddb.Open(geoip); err != nil {
			return fmt.Errorf("-geoip: %s: %w", geoip, err)
		}
	}
	return nil
}

func (c *config) close() {
	if c.countries != nil {
		_ = c.countries.Close() // opened for reading: there is nothing to lose
	}
}

// sessions are the windows of a visitor's sessions.
func (c *config) sessions() window.Assigner {
	if c.splitByDay {
		return window.Session(c.sessionGap).SplitByDay(c.location)
	}
	return window.Session(c.sessionGap)
}

// prepare looks at the input, so that a wrong name costs no results of earlier
// runs, and makes the output folder.
func (c *config) prepare() error {
	if c.demo && c.output == "" {
		dir, err := os.MkdirTemp("", "webanalytics-")
		c.output = dir
		return err
	}
	if err := c.checkInput(); err != nil {
		return fmt.Errorf("-input: %w", err)
	}
	if err := c.prepareOutput(); err != nil {
		return fmt.Errorf("-output: %w", err)
	}
	return nil
}

func (c *config) checkInput() error {
	if c.demo {
		return nil
	}
	if fi, err := os.Stat(c.input); err == nil {
		if fi.IsDir() {
			return fmt.Errorf("%s is a directory (try %s)", c.input, filepath.Join(c.input, "*"))
		}
		return c.checkApart(c.input)
	}
	files, err := filepath.Glob(c.input)
	if err != nil {
		return fmt.Errorf("%s: %w", c.input, err)
	}
	// The source passes over folders and the like that a pattern matches.
	files = slices.DeleteFunc(files, func(name string) bool {
		fi, err := os.Stat(name)
		return err == nil && !fi.Mode().IsRegular()
	})
	if len(files) == 0 {
		return fmt.Errorf("there is no file %s", c.input)
	}
	for _, f := range files {
		if err := c.checkApart(f); err != nil {
			return err
		}
	}
	return nil
}

// checkApart refuses what can't be read, and to read what would be overwritten:
// late.jsonl and duplicates.jsonl are good input, for another folder.
func (c *config) checkApart(input string) error {
	f, err := openInput(input)
	if err != nil {
		return err
	}
	read, err := f.Stat()
	_ = f.Close()
	if err != nil {
		return err
	}
	for _, name := range resultFiles {
		written, err := os.Stat(filepath.Join(c.output, name))
		if err == nil && os.SameFile(read, written) {
			return fmt.Errorf("%s is a result file of -output", input)
		}
	}
	return nil
}

// openInput sees that a file can be read at all. A pipe is refused before it is
// opened, which would wait for a writer.
func openInput(path string) (*os.File, error) {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.Open(path)
}

// graphFormat is the flag -graph, which may stand alone.
type graphFormat string

// String implements [flag.Value].
func (g *graphFormat) String() string { return string(*g) }

// IsBoolFlag lets the flag do without a value.
func (g *graphFormat) IsBoolFlag() bool { return true }

// Set implements [flag.Value].
func (g *graphFormat) Set(s string) error {
	switch s {
	case "true":
		s = "text"
	case "text", "mermaid", "json":
	default:
		return errors.New("must be text, mermaid or json")
	}
	*g = graphFormat(s)
	return nil
}

func printGraph(g pipeline.Graph, format graphFormat, w io.Writer) int {
	switch format {
	case "mermaid":
		fmt.Fprint(w, g.Mermaid())
	case "json":
		text, err := json.MarshalIndent(g, "", "  ")
		if err != nil {
			panic(err) // it is made of strings and numbers
		}
		fmt.Fprintln(w, string(text))
	default:
		fmt.Fprint(w, g)
	}
	return exitOK
}
