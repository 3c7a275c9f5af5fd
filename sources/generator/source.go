package generator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/millrace/millrace/internal/pause"
	"github.com/millrace/millrace/pipeline"
)

// Source makes records up. It is made by [Func].
type Source[T any] struct {
	n   int64
	f   func(r *rand.Rand, i int64) T
	cfg config
}

// Option sets something of a source.
type Option func(*config)

type config struct {
	seed   uint64
	splits int
	rate   float64
}

// Seed chooses among the sequences that the function can make. Default 1.
func Seed(seed uint64) Option { return func(c *config) { c.seed = seed } }

// Splits sets how many splits the records are dealt to, one after another, and
// so at how many subtasks the source can run. It changes the order in which
// records come, not the records. A job that restarts keeps it. Default 4.
func Splits(n int) Option { return func(c *config) { c.splits = n } }

// Rate sets how many records come a second, over all subtasks. After the job
// was held up, the source catches up on a tenth of a second and forgets the
// rest. Default: as fast as the job takes them.
func Rate(perSecond float64) Option { return func(c *config) { c.rate = perSecond } }

// Func returns a source of n records, endless if n is 0: record i, from 0, is
// f(r, i). Everything random in it must come from r, which starts anew for
// each record from the seed and i, so that record i is the same in every run,
// at any parallelism, and after a restart in the middle. r is valid during the
// call only. Several subtasks call f at once.
func Func[T any](n int64, f func(r *rand.Rand, i int64) T, opts ...Option) *Source[T] {
	s := &Source[T]{n: n, f: f, cfg: config{seed: 1, splits: 4}}
	for _, o := range opts {
		o(&s.cfg)
	}
	return s
}

// Open implements [pipeline.Source].
func (s *Source[T]) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[T], error) {
	switch {
	case s.n < 0:
		return nil, fmt.Errorf("number of records is negative: %d", s.n)
	case s.f == nil:
		return nil, fmt.Errorf("the function is nil")
	case s.cfg.splits < 1:
		return nil, fmt.Errorf("invalid option: Splits is %d, must be at least 1", s.cfg.splits)
	case s.cfg.rate < 0:
		return nil, fmt.Errorf("invalid option: Rate is negative: %v", s.cfg.rate)
	}
	pcg := rand.NewPCG(0, 0)
	r := &reader[T]{source: s, batch: max(env.BatchSize, 1), pcg: pcg, rand: rand.New(pcg)}
	for i := range s.cfg.splits {
		if !env.Mine(i) {
			continue
		}
		sp := &split{name: strconv.Itoa(i), index: int64(i)}
		if at, ok := env.Positions[sp.name]; ok {
			made, err := strconv.ParseInt(string(at), 10, 64)
			if err != nil || made < 0 {
				return nil, fmt.Errorf("split %s: position %q is no count", sp.name, at)
			}
			sp.made = made
		}
		r.splits = append(r.splits, sp)
	}
	if s.cfg.rate > 0 {
		r.pace.interval = time.Duration(float64(time.Second) * float64(s.cfg.splits) / s.cfg.rate / float64(max(len(r.splits), 1)))
	}
	return r, nil
}

// split deals with the records index, index+splits, index+2*splits and so on.
// Its position is how many of them were made, in decimal.
type split struct {
	name  string
	index int64
	made  int64
}

type reader[T any] struct {
	pause.Set
	source    *Source[T]
	batch     int
	pcg       *rand.PCG
	rand      *rand.Rand
	splits    []*split // those not yet finished
	turn      int
	pace      pace
	announced bool
}

func (r *reader[T]) Read(ctx context.Context, b *pipeline.SourceBatch[T]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !r.announced {
		r.announced = true
		for _, s := range r.splits {
			b.AddSplit(s.name)
		}
		return nil // time waits for the splits, not for the rate
	}
	if len(r.splits) == 0 {
		return pipeline.ErrEndOfInput
	}
	due, err := r.pace.wait(ctx, r.batch)
	if err != nil {
		return err
	}
	i, err := r.Choose(ctx, r.turn, len(r.splits), func(i int) string { return r.splits[i].name })
	if err != nil {
		return err
	}
	s := r.splits[i]
	done := r.fill(s, b, due)
	r.pace.spent(len(b.Values))
	r.turn = i + 1
	if done {
		b.FinishSplit(s.name)
		r.splits = append(r.splits[:i], r.splits[i+1:]...)
		r.turn = i
	}
	return nil
}

// fill makes up to n records of a split, and says whether it has no more.
func (r *reader[T]) fill(s *split, b *pipeline.SourceBatch[T], n int) bool {
	step, end := int64(r.source.cfg.splits), r.source.n
	b.Split = s.name
	done := false
	for len(b.Values) < n {
		i := s.index + s.made*step
		if done = end > 0 && i >= end; done {
			break
		}
		r.pcg.Seed(mix(r.source.cfg.seed), mix(uint64(i)))
		b.Values = append(b.Values, r.source.f(r.rand, i))
		s.made++
	}
	b.Position = strconv.AppendInt(nil, s.made, 10)
	return done || (end > 0 && s.index+s.made*step >= end)
}

// mix spreads a counter over all bits (splitmix64), so that neighbouring
// records have unrelated random numbers.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// pace spaces records evenly. A limiter with tokens, as in golang.org/x/time,
// would do as well; that all waiting is for a batch makes it this short.
type pace struct {
	interval time.Duration // between records; zero for no limit
	next     time.Time     // when the next record is due
}

// catchUp is how far behind a pace may fall.
const catchUp = 100 * time.Millisecond

// atOnce is how long records gather that are due soon, so that a high rate
// comes in batches.
const atOnce = time.Millisecond

// wait returns how many records are due, at most n and at least one.
func (p *pace) wait(ctx context.Context, n int) (int, error) {
	if p.interval <= 0 {
		return n, nil
	}
	now := time.Now()
	if earliest := now.Add(-catchUp); p.next.Before(earliest) {
		p.next = now
	}
	if early := p.next.Sub(now); early > 0 {
		t := time.NewTimer(max(early, atOnce))
		defer t.Stop()
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-t.C:
		}
		now = time.Now()
	}
	return int(min(int64(n), int64(now.Sub(p.next)/p.interval)+1)), nil
}

func (p *pace) spent(n int) {
	if p.interval > 0 {
		p.next = p.next.Add(time.Duration(n) * p.interval)
	}
}
