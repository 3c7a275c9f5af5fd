package main

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"

	"github.com/millrace/millrace/benchmarks/internal/traffic"
)

const (
	began  = 1_767_225_600_000 // the time of the first record, in ms
	minute = 60_000
	day    = 24 * 60 * minute

	pagesOfUser = 40 // those a user ever visits
)

// crowd makes the visits of many users, in the order of their time. A user comes in
// bursts: 4 to 20 visits with up to 10 s between two, and then none for 31 minutes to
// two hours. So no two visits of a user are exactly 30 minutes apart, which is the gap
// of sessions.
type crowd struct {
	rng   *rand.Rand
	users []*visitor // a heap
}

type visitor struct {
	name  int
	next  int64 // the time of the next visit
	burst int   // visits left in the burst
}

func newCrowd(users int, seed uint64) *crowd {
	c := &crowd{rng: rand.New(rand.NewPCG(seed, 6))}
	for i := range users {
		c.users = append(c.users, &visitor{name: i, next: began + c.rng.Int64N(75*minute), burst: c.visits()})
	}
	heap.Init(c)
	return c
}

func (c *crowd) visits() int { return 4 + c.rng.IntN(17) }

// visit makes the next one.
func (c *crowd) visit() traffic.Event {
	u := c.users[0]
	page := (u.name*7919 + min(c.rng.IntN(pagesOfUser), c.rng.IntN(pagesOfUser))*31) % 2000
	v := traffic.Event{
		User: fmt.Sprintf("user-%06d", u.name), Page: fmt.Sprintf("/products/%d", page), Time: u.next,
		Referrer: "https://search.example/?q=shoes", Agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101", Status: 200,
	}
	if u.burst--; u.burst > 0 {
		u.next += 1 + c.rng.Int64N(10_000)
	} else {
		u.next += 31*minute + c.rng.Int64N(90*minute)
		u.burst = c.visits()
	}
	heap.Fix(c, 0)
	return v
}

// Len implements [heap.Interface].
func (c *crowd) Len() int { return len(c.users) }

// Less implements [heap.Interface].
func (c *crowd) Less(i, j int) bool {
	a, b := c.users[i], c.users[j]
	return cmp.Or(cmp.Compare(a.next, b.next), cmp.Compare(a.name, b.name)) < 0
}

// Swap implements [heap.Interface].
func (c *crowd) Swap(i, j int) { c.users[i], c.users[j] = c.users[j], c.users[i] }

// Push implements [heap.Interface]. Nobody joins.
func (c *crowd) Push(any) { panic("the crowd does not grow") }

// Pop implements [heap.Interface]. Nobody leaves.
func (c *crowd) Pop() any { panic("the crowd does not shrink") }
