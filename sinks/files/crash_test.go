package files

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/millrace/millrace/pipeline"
)

// number is a record of the crash tests.
type number struct {
	N int64 `json:"n" parquet:"n"`
}

// output is a kind of sink under test, with what reads its files back.
type output struct {
	sink   func(d disk) pipeline.Sink[number]
	is     func(name string) bool // one of its files
	read   func(data []byte) ([]int64, error)
	hidden bool // nothing is seen before its commit
	seeds  int  // how often it is worth its time
}

var outputs = map[string]output{
	"growing": {
		sink: func(d disk) pipeline.Sink[number] {
			s := JSON[number]("/out/all.jsonl")
			s.disk = d
			return s
		},
		is:    func(name string) bool { return strings.HasPrefix(name, "all") },
		read:  readLines,
		seeds: 3,
	},
	"parts": {
		sink: func(d disk) pipeline.Sink[number] {
			s := JSONParts[number]("/out", RollAt(20)) // several a checkpoint
			s.disk = d
			return s
		},
		is:     func(name string) bool { return strings.HasPrefix(name, "part-") },
		read:   readLines,
		hidden: true,
		seeds:  3,
	},
	"parquet": {
		sink: func(d disk) pipeline.Sink[number] {
			s := Parquet[number]("/out", RowGroup(1))
			s.disk = d
			return s
		},
		is:     func(name string) bool { return strings.HasPrefix(name, "part-") },
		read:   readParquet,
		hidden: true,
		seeds:  1,
	},
}

func readLines(data []byte) ([]int64, error) {
	var all []int64
	for line := range strings.Lines(string(data)) {
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(line, `{"n":`), "}\n"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		all = append(all, n)
	}
	return all, nil
}

func readParquet(data []byte) ([]int64, error) {
	rows, err := parquet.Read[number](strings.NewReader(string(data)), int64(len(data)))
	var all []int64
	for _, r := range rows {
		all = append(all, r.N)
	}
	return all, err
}

// written returns the records in the sink's files, in order.
func (o output) written(d *testDisk) ([]int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	folder := d.folders["/out"]
	if folder == nil {
		return nil, nil
	}
	var all []int64
	for name, f := range folder.names {
		if !o.is(name) {
			continue
		}
		numbers, err := o.read(f.data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, numbers...)
	}
	slices.Sort(all)
	return all, nil
}

// model is the engine as a sink sees it: records are numbers, and a checkpoint
// is complete in one step, in a store that never fails.
type model struct {
	output
	disk   *testDisk
	rng    *rand.Rand
	starts int

	writers  []pipeline.Writer[number]
	at       int64    // the next record
	number   int64    // of the last checkpoint
	waiting  [][]byte // prepared and not committed
	complete bool
	saved    [][]byte // with the last complete checkpoint
	savedAt  int64
}

const (
	modelRecords = 24
	modelBatch   = 2
)

// start runs the job until it is done or something fails.
func (m *model) start() error {
	m.starts++
	if err := m.open(1 + m.rng.IntN(3)); err != nil {
		return err
	}
	if err := m.run(); err != nil {
		for _, w := range m.writers {
			_ = w.(pipeline.Closer).Close()
		}
		return err
	}
	for _, w := range m.writers {
		if err := w.(pipeline.Closer).Close(); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) open(parallelism int) error {
	m.writers, m.waiting, m.at = nil, nil, m.savedAt
	env := pipeline.SinkEnv{
		Operator: "out", Parallelism: parallelism, Checkpoints: true, Run: fmt.Sprintf("r%d", m.starts),
		Logger: slog.New(slog.DiscardHandler), Metrics: &pipeline.Metrics{},
	}
	if m.complete {
		env.Prepared = append([][]byte{}, m.saved...)
	}
	sink := m.sink(m.disk)
	for i := range parallelism {
		mine := env
		mine.Subtask = i
		w, err := sink.Open(context.Background(), &mine)
		if err != nil {
			for _, w := range m.writers {
				_ = w.(pipeline.Closer).Close()
			}
			return fmt.Errorf("open: %w", err)
		}
		m.writers = append(m.writers, w)
	}
	return nil
}

func (m *model) run() error {
	if err := m.commit(m.saved); err != nil {
		return err
	}
	for m.at < modelRecords {
		if err := m.write(); err != nil {
			return err
		}
		if m.at%6 == 0 && m.at < modelRecords {
			if err := m.barrier(m.rng.IntN(4) > 0); err != nil {
				return err
			}
		}
	}
	if err := m.barrier(true); err != nil {
		return err
	}
	// One with nothing to prepare, after which the one before is forgotten.
	return m.barrier(true)
}

func (m *model) write() error {
	b := &pipeline.Records[number]{Times: make([]int64, modelBatch)}
	for range modelBatch {
		b.Values = append(b.Values, number{m.at})
		m.at++
	}
	w := m.writers[m.rng.IntN(len(m.writers))]
	if err := w.Write(context.Background(), b); err != nil {
		return err
	}
	if f, ok := w.(pipeline.Flusher); ok {
		return f.Flush(context.Background())
	}
	return nil
}

// barrier takes a checkpoint, which may fail elsewhere, and commits what waits
// if there is one; sometimes that is left to a later one.
func (m *model) barrier(completes bool) error {
	m.number++
	for _, w := range m.writers {
		p, err := w.(pipeline.Committer).Prepare(context.Background(), m.number)
		if err != nil {
			return err
		}
		if p != nil {
			m.waiting = append(m.waiting, p)
		}
	}
	if !completes {
		return nil
	}
	m.complete, m.savedAt, m.saved = true, m.at, slices.Clone(m.waiting)
	if m.at < modelRecords && m.rng.IntN(3) == 0 {
		return nil
	}
	waiting := m.waiting
	m.waiting = nil
	if err := m.commit(waiting); err != nil {
		return err
	}
	return m.check(m.savedAt)
}

func (m *model) commit(prepared [][]byte) error {
	for i, p := range prepared {
		if err := m.writers[i%len(m.writers)].(pipeline.Committer).Commit(context.Background(), p); err != nil {
			return err
		}
	}
	return nil
}

// errWrong is what the tests look for.
var errWrong = errors.New("wrong output")

// check compares the output with the first n records.
func (m *model) check(n int64) error {
	got, err := m.written(m.disk)
	if err != nil {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	var want []int64
	for i := range n {
		want = append(want, i)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("%w: records %v, want %v", errWrong, got, want)
	}
	return nil
}

// checkHidden makes sure that only committed records are seen, none twice.
func (m *model) checkHidden() error {
	if !m.hidden {
		return nil
	}
	got, err := m.written(m.disk)
	if err != nil {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	if n := len(got); n > 0 && got[n-1] >= m.savedAt || len(slices.Compact(slices.Clone(got))) != n {
		return fmt.Errorf("%w: of %d committed records %v are seen", errWrong, m.savedAt, got)
	}
	return nil
}

// fault is one thing that happens to a job.
type fault struct {
	at    int // the change of the disk at which it happens
	err   error
	fails int // how many changes in a row fail
	keep  survival
}

// live runs a job through faults, one a start, to its end, and returns how many
// changes of the disk its first start made.
func live(o output, seed uint64, faults ...fault) (int, error) {
	m := &model{output: o, disk: newTestDisk(seed), rng: rand.New(rand.NewPCG(seed, 2))}
	first := 0
	for {
		m.disk.failAt, m.disk.ops = 0, 0
		if len(faults) > 0 {
			m.disk.failAt, m.disk.failing, m.disk.fails, m.disk.keep = faults[0].at, faults[0].err, faults[0].fails, faults[0].keep
			faults = faults[1:]
		}
		err := m.start()
		if first == 0 {
			first = m.disk.ops
		}
		switch {
		case errors.Is(err, errWrong):
			return first, err
		case err == nil && !m.disk.dead():
			// What a job has committed when it ends is there for good.
			m.disk.keep = keepsNone
			m.disk = m.disk.restart()
			return first, m.check(modelRecords)
		case err != nil && !m.disk.dead() && !errors.Is(err, syscall.ENOSPC):
			return first, fmt.Errorf("%w: start %d fails by itself: %w", errWrong, m.starts, err)
		case err != nil && !strings.Contains(err.Error(), "/out"):
			return first, fmt.Errorf("%w: the error names no file: %w", errWrong, err)
		}
		if m.disk.dead() {
			m.disk = m.disk.restart()
		}
		if err := m.checkHidden(); err != nil {
			return first, err
		}
	}
}

// TestRule18_CrashAtEveryChange cuts the power, kills the process, or fills the
// disk at each change that a job makes to it, and starts the job again.
func TestRule18_CrashAtEveryChange(t *testing.T) {
	for name, o := range outputs {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= uint64(o.seeds); seed++ {
				changes, err := live(o, seed)
				if err != nil || changes < 20 {
					t.Fatalf("undisturbed: %d changes, error %v", changes, err)
				}
				for at := 1; at <= changes; at++ {
					faults := []fault{
						{at, errPowerCut, 0, keepsNone}, {at, syscall.ENOSPC, 1, ""},
						{at, errPowerCut, 0, keepsAll}, {at, errPowerCut, 0, keepsSome}, {at, syscall.ENOSPC, 10, ""},
					}
					if o.seeds == 1 {
						faults = faults[:2]
					}
					for _, f := range faults {
						if _, err := live(o, seed, f); err != nil {
							t.Errorf("seed %d, %+v: %v", seed, f, err)
						}
					}
				}
			}
		})
	}
}

// TestRule18_CrashesInARow has several faults one after the other, some while
// the job recovers from the one before.
func TestRule18_CrashesInARow(t *testing.T) {
	for name, o := range outputs {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= uint64(50*o.seeds); seed++ {
				rng := rand.New(rand.NewPCG(seed, 3))
				var faults []fault
				for range 8 {
					f := fault{1 + rng.IntN(30), errPowerCut, 0, []survival{keepsAll, keepsNone, keepsSome}[rng.IntN(3)]}
					if rng.IntN(4) == 0 {
						f.err, f.fails = syscall.ENOSPC, 1+rng.IntN(5)
					}
					faults = append(faults, f)
				}
				if _, err := live(o, seed, faults...); err != nil {
					t.Fatalf("seed %d, %+v: %v", seed, faults, err)
				}
			}
		})
	}
}
