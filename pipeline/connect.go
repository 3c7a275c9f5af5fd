package pipeline

import "reflect"

// CoProcessor is an operator of two inputs that share state and timers. It may
// implement the same further interfaces as a [Processor], except
// [BatchProcessor].
type CoProcessor[K comparable, L, R, Out any] interface {
	// ProcessLeft handles a record of the first input; errors are as for
	// [Processor].
	ProcessLeft(c *Context[K, Out], in L) error
	// ProcessRight handles a record of the second input.
	ProcessRight(c *Context[K, Out], in R) error
}

// Connect joins two inputs in one operator. Both are keyed by keys of one
// type, so that records of either with the same key meet the same state, or
// both are without a key. The watermark is the lower of the two.
func Connect[K comparable, L, R, Out any, P CoProcessor[K, L, R, Out]](
	left Input[K, L], right Input[K, R], name string, newOp func() P, opts ...OperatorOption,
) Stream[Out] {
	p, leftEdges, _, _ := left.input()
	q, rightEdges, _, _ := right.input()
	n := p.add(&node{name: name, kind: kindOperator, out: reflect.TypeFor[Out]()})
	n.apply(opts)
	if p != q {
		p.mistake(n.where, "operator %q connects streams of different pipelines", name)
		rightEdges = nil
	}
	if newOp == nil {
		p.mistake(n.where, "operator %q: the constructor is nil", name)
	}
	n.consume(0, leftEdges)
	n.consume(1, rightEdges)
	n.build = func(env *buildEnv) *instance { return newCoRunner[K, L, R, Out](env, newOp()) }
	return streamOf[Out](p, n)
}
