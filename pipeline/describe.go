package pipeline

import (
	"fmt"
	"slices"
	"strings"
)

// Graph describes a pipeline: its operators, how they are connected, and which
// run together in one goroutine. It marshals to JSON.
type Graph struct {
	Nodes []GraphNode `json:"nodes"`
	Edges []GraphEdge `json:"edges"`
	// Chains are the names of operators that run in one goroutine per subtask,
	// handing batches on by direct calls.
	Chains [][]string `json:"chains"`
}

// GraphNode is a source, operator or sink.
type GraphNode struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"` // source, operator, union or sink
	Output      string `json:"output,omitempty"`
	Parallelism int    `json:"parallelism"`
	Where       string `json:"where"`
}

// GraphEdge is a connection.
type GraphEdge struct {
	From string `json:"from"`
	// Output is the side output's name, empty for the main output.
	Output string `json:"output,omitempty"`
	To     string `json:"to"`
	// Exchange is chain where there is none, else forward, hash, rebalance or
	// broadcast.
	Exchange string `json:"exchange"`
}

// Graph describes the pipeline as it would run. Mistakes don't keep it from
// being described, so that it helps to find them.
func (p *Pipeline) Graph() Graph {
	plan := planOf(p)
	var g Graph
	for _, n := range p.nodes {
		gn := GraphNode{Name: n.name, Kind: n.kind.String(), Parallelism: n.parallelism, Where: n.where}
		if n.out != nil {
			gn.Output = n.out.String()
		}
		g.Nodes = append(g.Nodes, gn)
	}
	for _, n := range p.nodes {
		for _, e := range n.in {
			g.Edges = append(g.Edges, GraphEdge{e.from.name, e.out.name, n.name, e.exchange()})
		}
	}
	for _, head := range plan.heads {
		var names []string
		for _, n := range plan.chain(head) {
			names = append(names, n.name)
		}
		g.Chains = append(g.Chains, names)
	}
	return g
}

func (e *edge) exchange() string {
	if e.chained {
		return "chain"
	}
	return e.conn.kind()
}

// String renders the graph as text, a line for each chain and for each
// exchange.
func (g Graph) String() string {
	var b strings.Builder
	par := map[string]int{}
	for _, n := range g.Nodes {
		par[n.Name] = n.Parallelism
	}
	for _, c := range g.Chains {
		fmt.Fprintf(&b, "%s ×%d\n", strings.Join(c, " → "), par[c[0]])
	}
	for _, e := range g.Edges {
		if e.Exchange == "chain" {
			continue
		}
		from := e.From
		if e.Output != "" {
			from += "[" + e.Output + "]"
		}
		fmt.Fprintf(&b, "  %s =%s=> %s\n", from, e.Exchange, e.To)
	}
	return b.String()
}

// Mermaid renders the graph as a Mermaid flowchart: chains as boxes around
// their operators, exchanges as labelled arrows.
func (g Graph) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	id := map[string]string{}
	for i, n := range g.Nodes {
		id[n.Name] = fmt.Sprintf("n%d", i)
	}
	for i, c := range g.Chains {
		fmt.Fprintf(&b, "  subgraph c%d [\" \"]\n", i)
		for _, n := range g.Nodes {
			if slices.Contains(c, n.Name) {
				fmt.Fprintf(&b, "    %s[\"%s ×%d\"]\n", id[n.Name], mermaidText(n.Name), n.Parallelism)
			}
		}
		b.WriteString("  end\n")
	}
	for _, e := range g.Edges {
		label := e.Exchange
		if e.Output != "" {
			label = e.Output + ", " + label
		}
		fmt.Fprintf(&b, "  %s -->|%s| %s\n", id[e.From], mermaidText(label), id[e.To])
	}
	return b.String()
}

func mermaidText(s string) string { return strings.ReplaceAll(s, `"`, "#quot;") }
