package operators

import (
	"math"
	"math/bits"
	"slices"

	"github.com/bits-and-blooms/bloom/v3"
)

// generations are the Bloom filters of one key group: each holds the ids of a
// stretch of event time and is thrown away as a whole, since a Bloom filter
// cannot forget a single id.
//
// It is kept in parts, a filter each: only the filters that took ids since the
// last snapshot are written anew, see bloom_parts.go.
type generations struct {
	live  []generation
	parts filterParts
}

// generation holds ids of event times from first to last.
//
// It is one filter where its size was known, and otherwise a row of filters,
// each larger and stricter than the one before, so that together they keep to
// the false-positive rate (Almeida et al.: Scalable Bloom Filters, 2007).
type generation struct {
	first, last int64
	since       int64 // the watermark when it began
	filters     []idFilter
}

// idFilter is a filter with room for so many ids.
type idFilter struct {
	bits      *bloom.BloomFilter
	ids, room int
	part      uint64 // the number it is kept under; 0 is none yet
	changed   bool   // since it was last kept
}

// bloomPlan says how large filters are, and for how long they are needed.
type bloomPlan struct {
	rate     float64 // false positives of one generation
	expected int     // ids of one generation; 0: not known
	keep     int64   // how long an id is needed, from its event time
	step     int64   // what times of forgetting are rounded up to
}

// expiry returns the watermark at which an id of this event time is forgotten.
func (p *bloomPlan) expiry(time int64) int64 {
	at := addSat(time, p.keep)
	if over := at % p.step; over > 0 {
		return addSat(at, p.step-over)
	} else if over < 0 {
		return at - over
	}
	return at
}

const (
	minFilterIDs = 256
	filterGrowth = 4
)

// probe is where an id leaves its mark in filters of any size, by enhanced
// double hashing (Dillinger and Manolios: Bloom Filters in Probabilistic
// Verification, 2004).
type probe struct{ start, step uint64 }

// newProbe mixes the hash of a key first, because that decided the key group:
// within one, hashes have their low bits in common.
func newProbe(hash uint64) probe {
	start := mix(hash ^ 0x9e3779b97f4a7c15)
	return probe{start, mix(start)}
}

func (f *idFilter) has(p probe) bool {
	set, size := f.bits.BitSet(), uint64(f.bits.Cap())
	for i := range uint64(f.bits.K()) {
		if at, _ := bits.Mul64(p.start, size); !set.Test(uint(at)) {
			return false
		}
		p.start += p.step
		p.step += i
	}
	return true
}

func (f *idFilter) add(p probe) {
	set, size := f.bits.BitSet(), uint64(f.bits.Cap())
	for i := range uint64(f.bits.K()) {
		at, _ := bits.Mul64(p.start, size)
		set.Set(uint(at))
		p.start += p.step
		p.step += i
	}
	f.ids++
	f.changed = true
}

// falsePositives estimates the filter's false-positive rate as it is filled.
func (f *idFilter) falsePositives() float64 {
	k := float64(f.bits.K())
	return math.Pow(1-math.Exp(-k*float64(f.ids)/float64(f.bits.Cap())), k)
}

// has says whether the id may be in a generation that touches the event times
// from first to last.
func (g *generations) has(p probe, first, last int64) bool {
	for i := range g.live {
		gen := &g.live[i]
		if gen.first > last || gen.last < first {
			continue
		}
		for j := range gen.filters {
			if gen.filters[j].has(p) {
				return true
			}
		}
	}
	return false
}

// of returns the generation for exactly these event times, new where there is
// none.
func (g *generations) of(first, last int64) *generation {
	for i := len(g.live) - 1; i >= 0; i-- {
		if g.live[i].first == first {
			return &g.live[i]
		}
	}
	g.live = append(g.live, generation{first: first, last: last})
	return &g.live[len(g.live)-1]
}

// newest returns the generation that takes all ids now, whatever their event
// time. The next one begins when the watermark has moved on for as long as ids
// are kept, or for as long as records are ahead of it where that is longer: a
// small number of generations is then live even when a lagging split holds the
// watermark back.
func (g *generations) newest(time, watermark int64, plan *bloomPlan) *generation {
	if n := len(g.live); n > 0 {
		gen := &g.live[n-1]
		age, ahead := distance(watermark, gen.since), uint64(0)
		if gen.last > watermark {
			// One record from the far future must not keep a generation open for ever.
			ahead = min(distance(gen.last, watermark), maxLead*min(uint64(plan.keep), 1<<58))
		}
		if age < max(uint64(plan.keep), ahead, 1) {
			gen.first, gen.last = min(gen.first, time), max(gen.last, time)
			return gen
		}
	}
	g.live = append(g.live, generation{first: time, last: time, since: watermark})
	return &g.live[len(g.live)-1]
}

// maxLead bounds how far ahead of the watermark records may stretch a
// generation, in times that ids are kept.
const maxLead = 16

// add adds an id to one of the live generations.
func (g *generations) add(gen *generation, p probe, plan *bloomPlan) {
	n := len(gen.filters)
	if n == 0 || gen.filters[n-1].ids == gen.filters[n-1].room {
		room := g.roomFor(gen, plan)
		places, marks := bloom.EstimateParameters(uint(room), plan.rate/float64(uint64(2)<<n))
		gen.filters = append(gen.filters, idFilter{bits: bloom.New(places, marks), room: room})
		n++
	}
	gen.filters[n-1].add(p)
}

// roomFor sizes a generation's next filter: the first as expected, or a little
// larger than the generations before needed.
func (g *generations) roomFor(gen *generation, plan *bloomPlan) int {
	if n := len(gen.filters); n > 0 {
		return filterGrowth * gen.filters[n-1].room
	}
	room := minFilterIDs
	if plan.expected > 0 {
		// Ids do not spread evenly over key groups.
		return max(room, plan.expected+int(4*math.Sqrt(float64(plan.expected))))
	}
	for i := range g.live {
		ids := g.live[i].ids()
		room = max(room, ids+ids/4)
	}
	return room
}

func (gen *generation) ids() (ids int) {
	for i := range gen.filters {
		ids += gen.filters[i].ids
	}
	return ids
}

// ids returns the number of ids in live generations.
func (g *generations) ids() (ids int) {
	for i := range g.live {
		ids += g.live[i].ids()
	}
	return ids
}

// bytes returns the memory of all filters.
func (g *generations) bytes() (bytes int) {
	for i := range g.live {
		for _, f := range g.live[i].filters {
			bytes += int(f.bits.Cap()+7) / 8
		}
	}
	return bytes
}

// falsePositives estimates how likely a new id of the newest generation is to
// be found in one that touches the horizon before.
func (g *generations) falsePositives(horizon int64) float64 {
	first := int64(math.MinInt64)
	for i := range g.live {
		first = max(first, g.live[i].first)
	}
	miss := 1.0
	for i := range g.live {
		if g.live[i].last < subSat(first, horizon) {
			continue
		}
		for j := range g.live[i].filters {
			miss *= 1 - g.live[i].filters[j].falsePositives()
		}
	}
	return 1 - miss
}

// forget drops the generations whose ids are all past their expiry.
func (g *generations) forget(watermark int64, plan *bloomPlan) {
	expired := func(gen generation) bool { return plan.expiry(gen.last) <= watermark }
	if slices.ContainsFunc(g.live, expired) {
		for i := range g.live {
			if expired(g.live[i]) {
				g.parts.drop(g.live[i].filters)
			}
		}
		g.live = slices.DeleteFunc(g.live, expired)
	}
}

// distance returns a-b, for a not below b, whatever they are.
func distance(a, b int64) uint64 { return uint64(a) - uint64(b) }

// subSat returns a-b for b not below 0, at least the smallest int64.
func subSat(a, b int64) int64 {
	if a < math.MinInt64+b {
		return math.MinInt64
	}
	return a - b
}

// addSat returns a+b for b not below 0, at most the largest int64.
func addSat(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
