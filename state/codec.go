package state

// Codec turns values of one type into bytes and back. It may keep scratch
// space: each declared state has a codec of its own, used by one goroutine.
type Codec[T any] interface {
	// Append appends the encoding of *v to dst and returns the result. It must
	// not change *v, nor keep it.
	Append(dst []byte, v *T) ([]byte, error)

	// Decode makes *v, which is the zero value, what was encoded as src: all of
	// src, or it is an error. It must not keep src. Bytes that Append never wrote
	// are an error and not a panic.
	Decode(src []byte, v *T) error
}
