package main

import "strings"

// partitions is how many every topic has.
const partitions = 4

// job is what all sides do. README.md defines each.
type job struct {
	name  string
	input string // "events" or "nexmark"
	keyed bool   // the output's key is compared, too
	last  bool   // only the last value of a key is compared
}

var jobs = []job{
	{name: "count", input: "events", keyed: true},
	{name: "distinct", input: "events", keyed: true},
	{name: "sessions", input: "events", keyed: true},
	{name: "q1", input: "nexmark"},
	{name: "q5", input: "nexmark"},
	{name: "q8", input: "nexmark"},
	{name: "q11", input: "nexmark"},
	{name: "q18", input: "nexmark", keyed: true, last: true},
}

// task is what a side is told to do.
type task struct {
	job         string
	brokers     []string
	in, out     string
	parallelism int
	dir         string // for state and checkpoints
}

// side is one way to do the jobs.
type side struct {
	name    string
	run     func(t task) error // nil where it is another program
	command []string           // of that program, below the folder of the Java sides
	without []string           // jobs it can't do
	topics  map[string]string  // what it has besides its output: by the end of the name, what is done with old records
}

// does says whether the side can do a job.
func (s side) does(job string) bool {
	for _, w := range s.without {
		if w == job {
			return false
		}
	}
	return true
}

// goka has neither windows of event time nor joins of two streams that it keys.
var beyondGoka = []string{"q5", "q8"}

var topicsOfGoka = map[string]string{"-table": "compact", "-loop": "delete"}

var sides = []side{
	{name: "by-hand", run: byHand},
	{name: "millrace", run: func(t task) error { return millrace(t, false) }},
	{name: "millrace-pebble", run: func(t task) error { return millrace(t, true) }},
	{name: "goka-memory", run: func(t task) error { return withGoka(t, true) }, without: beyondGoka, topics: topicsOfGoka},
	{name: "goka", run: func(t task) error { return withGoka(t, false) }, without: beyondGoka, topics: topicsOfGoka},
	{name: "flink-heap", command: []string{"-engine", "flink-heap"}},
	{name: "flink-rocksdb", command: []string{"-engine", "flink-rocksdb"}},
	{name: "kafka-streams", command: []string{"-engine", "kafka-streams"}},
}

func sideNamed(name string) (side, bool) {
	for _, s := range sides {
		if s.name == name {
			return s, true
		}
	}
	return side{}, false
}

func jobNamed(name string) (job, bool) {
	for _, j := range jobs {
		if j.name == name {
			return j, true
		}
	}
	return job{}, false
}

func namesOf[T any](all []T, name func(T) string) string {
	var names []string
	for _, v := range all {
		names = append(names, name(v))
	}
	return strings.Join(names, ",")
}
