package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// figure is what a part has measured: one table and one chart.
type figure struct {
	Part   string   `json:"part"`
	Title  string   `json:"title"`
	X      string   `json:"x"` // what grows
	Y      string   `json:"y"` // what the chart shows, with its unit
	Sizes  []int    `json:"sizes"`
	Curves []*curve `json:"curves"`
	Goals  []goal   `json:"goals"`
	// Doubling says that the sizes grow by factors and belong on a logarithmic axis.
	Doubling bool `json:"doubling"`
}

// curve is one quantity at every size.
type curve struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// Points holds a point for each of the figure's sizes; what makes no sense at a
	// size is nil.
	Points []*point `json:"points"`
	// Aside says that the quantity is for the table, not for the chart.
	Aside bool `json:"aside"`
}

// point is the middle of some rounds, and their quartiles.
type point struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

func pointOf(rounds []float64) *point {
	if len(rounds) == 0 {
		return nil
	}
	return &point{results.Quantile(rounds, 0.5), results.Quantile(rounds, 0.25), results.Quantile(rounds, 0.75)}
}

// add adds a curve of the rounds at each size.
func (f *figure) add(name, unit string, rounds [][]float64) *curve {
	c := &curve{Name: name, Unit: unit}
	for _, r := range rounds {
		c.Points = append(c.Points, pointOf(r))
	}
	f.Curves = append(f.Curves, c)
	return c
}

func (f *figure) print(to io.Writer) error {
	fmt.Fprintf(to, "\n%s\n\n", f.Title)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, f.X, "\t")
	for _, c := range f.Curves {
		fmt.Fprintf(w, "%s, %s\t", c.Name, c.Unit)
	}
	fmt.Fprintln(w)
	for i, n := range f.Sizes {
		fmt.Fprint(w, short(n), "\t")
		for _, c := range f.Curves {
			fmt.Fprint(w, c.Points[i], "\t")
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(to)
	for _, g := range f.Goals {
		fmt.Fprintln(to, g)
	}
	return nil
}

// String implements [fmt.Stringer].
func (p *point) String() string {
	if p == nil {
		return ""
	}
	digits := 2
	if p.Median >= 100 {
		digits = 0
	} else if p.Median >= 10 {
		digits = 1
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, p.Median, digits, p.Low, digits, p.High)
}

// short writes 10000000 as 10 M.
func short(n int) string {
	switch {
	case n >= 1_000_000:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/1e6), ".0") + " M"
	case n >= 1000:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/1e3), ".0") + " k"
	default:
		return fmt.Sprint(n)
	}
}
