package pipeline

import "slices"

// plan says which nodes run together. A chain is a head and everything that is
// reached from it by chained edges; each chain becomes one task per subtask.
type plan struct {
	p     *Pipeline
	heads []*node
}

// planOf decides the chains. It also gives every node that can reject records
// its output to the dead-letter stream, if somebody consumes that.
func planOf(p *Pipeline) *plan {
	p.connectDeadLetters()
	pl := &plan{p: p}
	for _, n := range p.nodes {
		head := n.kind == kindSource
		for _, e := range n.in {
			e.chained = len(n.in) == 1 && e.from.parallelism == n.parallelism && e.conn.chainable(n.parallelism)
			head = head || !e.chained
		}
		if head || len(n.in) == 0 {
			pl.heads = append(pl.heads, n)
		}
	}
	return pl
}

// chain returns the nodes of a head's chain, in the order of the graph.
func (pl *plan) chain(head *node) []*node {
	members := []*node{head}
	for i := 0; i < len(members); i++ {
		for _, o := range members[i].outputs {
			for _, e := range o.edges {
				if e.chained {
					members = append(members, e.to)
				}
			}
		}
	}
	slices.SortFunc(members, func(a, b *node) int { return a.id - b.id })
	return members
}

// connectDeadLetters may run again, since a graph may be described before it is
// run: a node is connected once. Nodes that consume the dead-letter stream themselves are
// left out: their rejects would go round for ever.
func (p *Pipeline) connectDeadLetters() {
	if p.dead == nil || len(p.dead.outputs[0].edges) == 0 {
		return
	}
	for _, n := range p.nodes {
		if n.side(deadLetterOutput) != nil || slices.Contains(n.upstream(nil), p.dead) {
			continue
		}
		o := &output{name: deadLetterOutput, typ: p.dead.out, where: n.where}
		n.outputs = append(n.outputs, o)
		p.dead.consume(0, []*edge{newEdge(n, o, &forwarded[DeadLetter]{})})
	}
}
