package nexmark

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/memory"
)

// stretch is so many events of a generator.
type stretch struct {
	name   string
	config Config
	n      int64
}

// A stretch is long enough for windows, sessions and the days of some queries to come
// and go, but not for all of these at once.
var (
	minute = stretch{"a minute", Config{Start: DefaultStart - 20_000, Spacing: 3 * time.Millisecond, ActivePersons: 300}, 20_000}
	days   = stretch{"two days", Config{Start: DefaultStart - 16*3600_000, Spacing: 5 * time.Second}, 20_000}
)

// query is a query with the same in SQL.
type query struct {
	name string
	of   stretch
	// add adds the query to a pipeline, and returns what gives its rows afterwards.
	add func(events pipeline.Stream[Event]) (rows func() []string)
	// stateless says that checkpoints have nothing of the query in them.
	stateless bool
	// key is by how many columns a row replaces an earlier one. 0: all rows stay.
	key int
	sql string
}

// results ends a query's stream in memory, and has its rows written as row says.
func results[T any](q func(pipeline.Stream[Event]) pipeline.Stream[T], row func(T) string) func(pipeline.Stream[Event]) func() []string {
	return func(events pipeline.Stream[Event]) func() []string {
		out := memory.Collect(q(events), "out")
		return func() (rows []string) {
			for _, v := range out.Values() {
				rows = append(rows, row(v))
			}
			return rows
		}
	}
}

func bidRow(b Bid) string {
	return tabbed(b.Auction, b.Bidder, b.Price, b.Channel, b.URL, b.Time, b.Extra)
}

func rankRow(r ByRank) string { return tabbed(r.Total, r.Rank1, r.Rank2, r.Rank3) }

func figuresRow(f Figures) string {
	return tabbed(rankRow(f.Bids), rankRow(f.Bidders), rankRow(f.Auctions))
}

const (
	sqlBid  = "auction, bidder, price, channel, url, time, extra"
	sqlTime = "fromUnixTimestamp64Milli(time, 'UTC')"
	sqlDay  = "formatDateTime(" + sqlTime + ", '%F') AS day"
)

var (
	sqlBids    = "count(), " + sqlByRank("countIf(%s)")
	sqlFigures = sqlBids + ", uniqExact(bidder), " + sqlByRank("uniqExactIf(bidder, %s)") +
		", uniqExact(auction), " + sqlByRank("uniqExactIf(auction, %s)")
)

func sqlByRank(count string) string {
	return fmt.Sprintf(strings.Join([]string{count, count, count}, ", "),
		"price < 10000", "price >= 10000 AND price < 1000000", "price >= 1000000")
}

var queries = []query{
	{
		name: "q0", of: minute, stateless: true, add: results(Q0, bidRow),
		sql: "SELECT " + sqlBid + " FROM {bid}",
	},
	{
		name: "q1", of: minute, stateless: true,
		add: results(Q1, func(c Converted) string { return tabbed(c.Auction, c.Bidder, c.Price, c.Time, c.Extra) }),
		sql: "SELECT auction, bidder, intDiv(price * 908, 1000), time, extra FROM {bid}",
	},
	{
		name: "q2", of: minute, stateless: true,
		add: results(Q2, func(s Selected) string { return tabbed(s.Auction, s.Price) }),
		sql: "SELECT auction, price FROM {bid} WHERE auction % 123 = 0",
	},
	{
		name: "q5", of: minute,
		add: results(Q5, func(h HotItem) string { return tabbed(h.End, h.Auction, h.Count) }),
		sql: `WITH counts AS (
				SELECT arrayJoin(range(1, 6)) * 2000 + intDiv(time, 2000) * 2000 AS end, auction, count() AS bids
				FROM {bid} GROUP BY end, auction)
			SELECT end, auction, bids FROM counts WHERE (end, bids) IN (SELECT end, max(bids) FROM counts GROUP BY end)`,
	},
	{
		name: "q7", of: minute, add: results(Q7, bidRow),
		sql: "SELECT " + sqlBid + ` FROM {bid}
			WHERE (intDiv(time, 10000), price) IN (SELECT intDiv(time, 10000) AS w, max(price) FROM {bid} GROUP BY w)`,
	},
	{
		name: "q8", of: minute,
		add: results(Q8, func(s NewSeller) string { return tabbed(s.Start, s.Person, s.Name) }),
		sql: `SELECT DISTINCT p.w * 10000, p.id, p.name
			FROM (SELECT id, name, intDiv(time, 10000) AS w FROM {person}) AS p
			JOIN (SELECT seller, intDiv(time, 10000) AS w FROM {auction}) AS a ON p.id = a.seller AND p.w = a.w`,
	},
	{
		name: "q11", of: minute,
		add: results(Q11, func(s BidderSession) string { return tabbed(s.Bidder, s.First, s.Last, s.Count) }),
		sql: `SELECT bidder, min(time), max(time), count()
			FROM (SELECT bidder, time, sum(first) OVER (PARTITION BY bidder ORDER BY n) AS session
				FROM (SELECT bidder, time, n,
					time - lagInFrame(time, 1, 0) OVER (PARTITION BY bidder ORDER BY n) > 10000 AS first FROM {bid}))
			GROUP BY bidder, session`,
	},
	{
		name: "q14", of: days, stateless: true,
		add: results(Q14, func(c Computed) string {
			return tabbed(c.Auction, c.Bidder, c.Price, c.TimeOfDay, c.Time, c.Extra, c.Cs)
		}),
		sql: `SELECT auction, bidder, intDiv(price * 908, 1000),
				multiIf(hour >= 8 AND hour <= 18, 'dayTime', hour <= 6 OR hour >= 20, 'nightTime', 'otherTime'),
				time, extra, countSubstrings(extra, 'c')
			FROM (SELECT *, toHour(` + sqlTime + `) AS hour FROM {bid})
			WHERE price * 908 > 1000000000 AND price * 908 < 50000000000`,
	},
	{
		name: "q15", of: days,
		add: results(Q15, func(f DayFigures) string { return tabbed(f.Day, figuresRow(f.Figures)) }),
		sql: "SELECT " + sqlDay + ", " + sqlFigures + " FROM {bid} GROUP BY day",
	},
	{
		name: "q16", of: days,
		add: results(Q16, func(f ChannelFigures) string {
			return tabbed(f.Channel, f.Day, f.Minute, figuresRow(f.Figures))
		}),
		sql: "SELECT channel, " + sqlDay + ", formatDateTime(max(" + sqlTime + "), '%H:%i'), " + sqlFigures +
			" FROM {bid} GROUP BY channel, day",
	},
	{
		name: "q17", of: days,
		add: results(Q17, func(p AuctionPrices) string {
			return tabbed(p.Auction, p.Day, rankRow(p.Bids), p.Min, p.Max, p.Sum)
		}),
		sql: "SELECT auction, " + sqlDay + ", " + sqlBids + ", min(price), max(price), sum(price) FROM {bid} GROUP BY auction, day",
	},
	{
		name: "q18", of: minute, key: 2,
		add: results(Q18, func(b Bid) string { return tabbed(b.Bidder, b.Auction, b.Time, b.Price) }),
		sql: "SELECT bidder, auction, time, price FROM {bid} ORDER BY time DESC, price DESC LIMIT 1 BY bidder, auction",
	},
	{
		name: "q19", of: minute, key: 2,
		add: results(Q19, func(r RankedBid) string {
			return tabbed(r.Bid.Auction, r.Rank, r.Bid.Bidder, r.Bid.Price, r.Bid.Time, r.Bid.Extra)
		}),
		sql: `SELECT auction, rank, bidder, price, time, extra
			FROM (SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, time, bidder, extra) AS rank FROM {bid})
			WHERE rank <= 10`,
	},
	{
		name: "q22", of: minute, stateless: true,
		add: results(Q22, func(f Folders) string {
			return tabbed(f.Auction, f.Bidder, f.Price, f.Channel, f.Dirs[0], f.Dirs[1], f.Dirs[2])
		}),
		sql: "SELECT auction, bidder, price, channel, dirs[4], dirs[5], dirs[6] FROM (SELECT *, splitByChar('/', url) AS dirs FROM {bid})",
	},
}

// ways are in how many ways every query is run, with the same results.
var ways = []struct {
	name    string
	state   bool // it makes a difference to state alone
	options func() []pipeline.Option
}{
	{"one subtask", false, func() []pipeline.Option { return []pipeline.Option{pipeline.DefaultParallelism(1)} }},
	{"two subtasks", false, func() []pipeline.Option { return []pipeline.Option{pipeline.DefaultParallelism(2)} }},
	{"checkpoints and little memory", true, func() []pipeline.Option {
		return []pipeline.Option{
			pipeline.DefaultParallelism(2), pipeline.StateMemory(1 << 20),
			pipeline.Checkpoints("/job", pipeline.CheckpointFiles(vfs.NewMem()), pipeline.CheckpointInterval(100*time.Millisecond)),
		}
	}},
}

func TestQueriesAreThoseOfSQL(t *testing.T) {
	databases := map[string]func() database{}
	for _, s := range []stretch{minute, days} {
		databases[s.name] = sync.OnceValue(func() database { return newDatabase(t, s.events(t)) })
	}
	for _, q := range queries {
		t.Run(q.name, func(t *testing.T) {
			want := databases[q.of.name]().rows(t, q.sql)
			slices.Sort(want)
			for _, way := range ways {
				if q.stateless && way.state {
					continue
				}
				compareRows(t, way.name, q.run(t, way.options()), want)
			}
		})
	}
}

func (s stretch) events(t *testing.T) (events []Event) {
	g := newGenerator(t, s.config)
	for n := range s.n {
		events = append(events, g.Event(n))
	}
	return events
}

// run returns a query's rows, sorted, and of those with one key the last.
func (q query) run(t *testing.T, opts []pipeline.Option) []string {
	t.Helper()
	p := pipeline.New(opts...)
	rows := q.add(pipeline.From(p, "events", newGenerator(t, q.of.config).Source(q.of.n), Watermarks()))
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := rows()
	if q.key > 0 {
		got = lastOfKey(got, q.key)
	}
	slices.Sort(got)
	return got
}

func lastOfKey(rows []string, columns int) (last []string) {
	at := map[string]int{}
	for _, row := range rows {
		key := strings.Join(strings.SplitN(row, "\t", columns+1)[:columns], "\t")
		i, ok := at[key]
		if !ok {
			at[key] = len(last)
			last = append(last, row)
			continue
		}
		last[i] = row
	}
	return last
}

// compareRows compares sorted rows, and shows the first that differ.
func compareRows(t *testing.T, way string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	shown := func(rows []string) string { return strings.Join(rows[i:min(i+3, len(rows))], "\n  ") }
	t.Errorf("%s: %d rows, want %d; from row %d on\n  %s\nwant\n  %s", way, len(got), len(want), i, shown(got), shown(want))
}

// The windows of q12 are those of the clock, so this test moves the clock: the events
// come in portions with seconds between them, and the database is told when each came.
func TestQ12IsThatOfSQL(t *testing.T) {
	const portion, portions, pause = 500, 12, 3 * time.Second
	events := stretch{config: Config{}, n: portion * portions}.events(t)
	db := newDatabase(t, events)
	for _, parallelism := range []int{1, 2} {
		var got []string
		var began int64
		pipelinetest.Test(t, func(t *testing.T, k *pipelinetest.Kit) {
			in := pipelinetest.Input[Event](k, "events")
			out := pipelinetest.Output(k, Q12(in.Stream()))
			k.Start()
			began = time.Now().UnixMilli()
			for part := range slices.Chunk(events, portion) {
				for _, e := range part {
					in.Send(e.Time(), e)
				}
				k.Advance(pause)
			}
			k.Finish()
			for _, c := range out.Values() {
				got = append(got, tabbed(c.Bidder, c.Start, c.Count))
			}
		}, pipeline.DefaultParallelism(parallelism))
		slices.Sort(got)
		want := db.rows(t, fmt.Sprintf(`SELECT bidder, intDiv(%d + intDiv(n, %d) * %d, 10000) * 10000 AS start, count()
			FROM {bid} GROUP BY bidder, start`, began, portion, pause.Milliseconds()))
		slices.Sort(want)
		compareRows(t, fmt.Sprintf("parallelism %d", parallelism), got, want)
	}
}
