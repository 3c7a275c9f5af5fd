package operators_test

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	sink "github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/window"
)

// A whole job: the views and visitors of each page in each minute, without
// hits that were sent twice.
func Example() {
	p := pipeline.New(pipeline.Name("pages"), pipeline.DefaultParallelism(1))
	in := pipeline.From(p, "hits", memory.From(hits), pipeline.BoundedDisorder(Hit.Time, 10*time.Second))
	unique := operators.Dedupe(in, "dedupe", Hit.EventID, 24*time.Hour)
	byPage := pipeline.KeyBy(unique, Hit.GetPage)

	type row struct{ Views, Visitors int64 }
	rows := operators.Aggregate(byPage, "views", window.Tumbling(time.Minute), operators.Combine2(
		operators.Count[Hit](), operators.Distinct(Hit.GetVisitor),
		func(views, visitors int64) row { return row{views, visitors} }))
	out := sink.Collect(rows, "out")
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}

	for _, r := range slices.SortedFunc(slices.Values(out.Values()), func(a, b operators.Result[string, row]) int {
		return cmp.Or(cmp.Compare(a.Window.Start, b.Window.Start), cmp.Compare(a.Key, b.Key))
	}) {
		fmt.Printf("%v %-5s %+v\n", r.Window, r.Key, r.Value)
	}
	// Output:
	// [0,60000) /     {Views:2 Visitors:2}
	// [0,60000) /shop {Views:2 Visitors:2}
	// [60000,120000) /     {Views:2 Visitors:1}
	// [60000,120000) /shop {Views:1 Visitors:1}
}

func ExampleMap() {
	p, in := from(hits, Hit.Time)
	pages := operators.Map(in, "page", func(h Hit) string { return strings.ToUpper(h.Page) })
	print(p, pages)
	// Output:
	// /
	// /SHOP
	// /SHOP
	// /
	// /SHOP
	// /
	// /SHOP
	// /
}

func ExampleTryMap() {
	p, in := from([]string{"1", "two", "3"}, func(string) int64 { return 0 })
	numbers := operators.TryMap(in, "parse", strconv.Atoi)
	dead := sink.Collect(pipeline.DeadLetters(p), "dead")
	print(p, numbers)
	for _, letter := range dead.Values() {
		fmt.Println("dead letter:", letter)
	}
	// Output:
	// 1
	// 3
	// dead letter: parse: two: strconv.Atoi: parsing "two": invalid syntax
}

func ExampleFilter() {
	p, in := from(hits, Hit.Time)
	slow := operators.Filter(in, "slow", func(h Hit) bool { return h.Took > 0.8 })
	print(p, slow)
	// Output:
	// {5000 /shop ann 0.9 2}
	// {5000 /shop ann 0.9 2}
	// {30000 /shop cleo 1.4 4}
}

func ExampleFlatMap() {
	p, in := from([]string{"to be or not", "to be"}, func(string) int64 { return 0 })
	words := operators.FlatMap(in, "split", func(line string, emit func(string)) {
		for word := range strings.FieldsSeq(line) {
			emit(word)
		}
	})
	print(p, words)
	// Output:
	// to
	// be
	// or
	// not
	// to
	// be
}

func ExampleDedupe() {
	p, in := from(hits, Hit.Time)
	repeated := pipeline.NewTag[Hit]("repeated")
	unique := operators.Dedupe(in, "dedupe", Hit.EventID, 24*time.Hour, operators.DuplicatesTo(repeated))
	ids := operators.Map(unique, "id", Hit.EventID)
	duplicates := sink.Collect(pipeline.SideOutput(unique, repeated), "duplicates")
	print(p, ids)
	fmt.Println("duplicates:", duplicates.Values())
	// Output:
	// 1
	// 2
	// 3
	// 4
	// 5
	// 6
	// 7
	// duplicates: [{5000 /shop ann 0.9 2}]
}

// The horizon decides how long an id counts as known: here everybody is
// greeted once in a minute.
func ExampleDedupe_horizon() {
	p, in := from(hits, Hit.Time)
	greet := operators.Dedupe(in, "greet", Hit.GetVisitor, time.Minute)
	print(p, operators.Map(greet, "greeting", func(h Hit) string { return fmt.Sprint(h.At/1000, " hello ", h.Visitor) }))
	// Output:
	// 1 hello ann
	// 9 hello bob
	// 30 hello cleo
	// 70 hello bob
	// 75 hello ann
}

// Ids in Bloom filters alone, for more ids than memory holds.
func ExampleApproximate() {
	p, in := from(hits, Hit.Time)
	unique := operators.Dedupe(in, "dedupe", Hit.EventID, 24*time.Hour,
		operators.Approximate(1e-6), operators.ExpectedRate(1000))
	print(p, operators.Map(unique, "id", Hit.EventID))
	// Output:
	// 1
	// 2
	// 3
	// 4
	// 5
	// 6
	// 7
}

func ExampleTopN() {
	p, in := from(hits, Hit.Time)
	all := pipeline.KeyBy(in, func(Hit) string { return "shop.example" })
	slowest := operators.TopN(all, "slowest", window.Tumbling(time.Minute), 2, Hit.Seconds)
	print(p, operators.Map(slowest, "render", func(r operators.Result[string, []Hit]) string {
		return fmt.Sprint(r.Window, r.Value)
	}))
	// Output:
	// [0,60000) [{30000 /shop cleo 1.4 4} {5000 /shop ann 0.9 2}]
	// [60000,120000) [{70000 /shop bob 0.7 6} {75000 / ann 0.4 7}]
}

func ExampleCount() {
	perMinute(operators.Count[Hit]())
	// Output:
	// /     minute 0: 2
	// /     minute 1: 2
	// /shop minute 0: 3
	// /shop minute 1: 1
}

func ExampleSum() {
	perMinute(operators.Sum(func(h Hit) int64 { return int64(math.Round(1000 * h.Took)) }))
	// Output:
	// /     minute 0: 300
	// /     minute 1: 700
	// /shop minute 0: 3200
	// /shop minute 1: 700
}

func ExampleMean() {
	perMinute(operators.Mean(func(h Hit) int64 { return h.At }))
	// Output:
	// /     minute 0: 5000
	// /     minute 1: 68000
	// /shop minute 0: 13333.333333333334
	// /shop minute 1: 70000
}

func ExampleMin() {
	perMinute(operators.Min(Hit.Seconds))
	// Output:
	// /     minute 0: 0.1
	// /     minute 1: 0.3
	// /shop minute 0: 0.9
	// /shop minute 1: 0.7
}

func ExampleMax() {
	perMinute(operators.Max(Hit.GetVisitor))
	// Output:
	// /     minute 0: bob
	// /     minute 1: ann
	// /shop minute 0: cleo
	// /shop minute 1: bob
}

// The first hit of a page in each minute.
func ExampleMinBy() {
	perMinute(operators.MinBy(Hit.Time))
	// Output:
	// /     minute 0: {1000 / ann 0.2 1}
	// /     minute 1: {61000 / ann 0.3 5}
	// /shop minute 0: {5000 /shop ann 0.9 2}
	// /shop minute 1: {70000 /shop bob 0.7 6}
}

// The last hit of a page in each minute.
func ExampleMaxBy() {
	perMinute(operators.MaxBy(Hit.Time))
	// Output:
	// /     minute 0: {9000 / bob 0.1 3}
	// /     minute 1: {75000 / ann 0.4 7}
	// /shop minute 0: {30000 /shop cleo 1.4 4}
	// /shop minute 1: {70000 /shop bob 0.7 6}
}

func ExampleDistinct() {
	perMinute(operators.Distinct(Hit.GetVisitor))
	// Output:
	// /     minute 0: 2
	// /     minute 1: 1
	// /shop minute 0: 2
	// /shop minute 1: 1
}

func ExampleHLL() {
	perMinute(operators.HLL(16, Hit.GetVisitor))
	// Output:
	// /     minute 0: 2
	// /     minute 1: 1
	// /shop minute 0: 2
	// /shop minute 1: 1
}

func ExampleHLLHash() {
	perMinute(operators.HLLHash(operators.DefaultPrecision, Hit.EventID))
	// Output:
	// /     minute 0: 2
	// /     minute 1: 2
	// /shop minute 0: 2
	// /shop minute 1: 1
}

func ExampleQuantiles() {
	agg := operators.Quantiles(Hit.Seconds, 0.5, 1)
	acc := agg.New()
	for _, h := range hits {
		agg.Add(&acc, h)
	}
	fmt.Printf("%.1f", agg.Result(&acc))
	// Output: [0.4 1.4]
}

func ExampleQuantilesWithin() {
	agg := operators.QuantilesWithin(0.001, Hit.Seconds, 0, 1)
	acc := agg.New()
	for _, h := range hits {
		agg.Add(&acc, h)
	}
	fmt.Printf("%.2f", agg.Result(&acc))
	// Output: [0.10 1.40]
}

func ExampleHeavyHitters() {
	perMinute(operators.HeavyHitters(1, Hit.GetVisitor))
	// Output:
	// /     minute 0: [{ann 1 0}]
	// /     minute 1: [{ann 2 0}]
	// /shop minute 0: [{ann 2 0}]
	// /shop minute 1: [{bob 1 0}]
}

func ExampleCollect() {
	ids := operators.Collect[Hit]()
	perMinute(ids)
	// Output:
	// /     minute 0: [{1000 / ann 0.2 1} {9000 / bob 0.1 3}]
	// /     minute 1: [{61000 / ann 0.3 5} {75000 / ann 0.4 7}]
	// /shop minute 0: [{5000 /shop ann 0.9 2} {5000 /shop ann 0.9 2} {30000 /shop cleo 1.4 4}]
	// /shop minute 1: [{70000 /shop bob 0.7 6}]
}

func ExampleCollectN() {
	perMinute(operators.CollectN[Hit](1))
	// Output:
	// /     minute 0: [{1000 / ann 0.2 1}]
	// /     minute 1: [{61000 / ann 0.3 5}]
	// /shop minute 0: [{5000 /shop ann 0.9 2}]
	// /shop minute 1: [{70000 /shop bob 0.7 6}]
}

func ExampleTop() {
	perMinute(operators.Top(1, Hit.Seconds))
	// Output:
	// /     minute 0: [{1000 / ann 0.2 1}]
	// /     minute 1: [{75000 / ann 0.4 7}]
	// /shop minute 0: [{30000 /shop cleo 1.4 4}]
	// /shop minute 1: [{70000 /shop bob 0.7 6}]
}

// The order tells any two hits apart, so the ranking does not depend on how
// they arrive.
func ExampleTopFunc() {
	perMinute(operators.TopFunc(2, func(a, b Hit) int {
		return cmp.Or(cmp.Compare(b.Took, a.Took), cmp.Compare(a.ID, b.ID))
	}))
	// Output:
	// /     minute 0: [{1000 / ann 0.2 1} {9000 / bob 0.1 3}]
	// /     minute 1: [{75000 / ann 0.4 7} {61000 / ann 0.3 5}]
	// /shop minute 0: [{30000 /shop cleo 1.4 4} {5000 /shop ann 0.9 2}]
	// /shop minute 1: [{70000 /shop bob 0.7 6}]
}

// The most viewed pages of each minute.
func ExampleTopCounts() {
	p, in := from(hits, Hit.Time)
	all := pipeline.KeyBy(in, func(Hit) string { return "shop.example" })
	pages := operators.Aggregate(all, "pages", window.Tumbling(time.Minute), operators.TopCounts(2, Hit.GetPage))
	print(p, operators.Map(pages, "render", func(r operators.Result[string, []operators.ItemCount[string]]) string {
		return fmt.Sprint(r.Window, r.Value)
	}))
	// Output:
	// [0,60000) [{/shop 3} {/ 2}]
	// [60000,120000) [{/ 2} {/shop 1}]
}

func ExampleCombine2() {
	perMinute(operators.Combine2(operators.Count[Hit](), operators.Distinct(Hit.GetVisitor),
		func(views, visitors int64) string { return fmt.Sprintf("%d views by %d visitors", views, visitors) }))
	// Output:
	// /     minute 0: 2 views by 2 visitors
	// /     minute 1: 2 views by 1 visitors
	// /shop minute 0: 3 views by 2 visitors
	// /shop minute 1: 1 views by 1 visitors
}

func ExampleCombine3() {
	perMinute(operators.Combine3(operators.Count[Hit](), operators.Min(Hit.Seconds), operators.Max(Hit.Seconds),
		func(n int64, fastest, slowest float64) string {
			return fmt.Sprintf("%d in %v to %v s", n, fastest, slowest)
		}))
	// Output:
	// /     minute 0: 2 in 0.1 to 0.2 s
	// /     minute 1: 2 in 0.3 to 0.4 s
	// /shop minute 0: 3 in 0.9 to 1.4 s
	// /shop minute 1: 1 in 0.7 to 0.7 s
}

func ExampleCombine4() {
	perMinute(operators.Combine4(operators.Count[Hit](), operators.Distinct(Hit.GetVisitor),
		operators.MinBy(Hit.Time), operators.MaxBy(Hit.Time),
		func(n, visitors int64, first, last Hit) string {
			return fmt.Sprintf("%d by %d, from %s to %s", n, visitors, first.Visitor, last.Visitor)
		}))
	// Output:
	// /     minute 0: 2 by 2, from ann to bob
	// /     minute 1: 2 by 1, from ann to ann
	// /shop minute 0: 3 by 2, from ann to cleo
	// /shop minute 1: 1 by 1, from bob to bob
}
