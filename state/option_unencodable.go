package state

// Unencodable declares a state that has no codec, and why, in place of
// [Encoding]. It is for generic operators that make the codec of their state of
// a codec for a type of their user's, when there is none: such state works as
// long as it is in memory only, and where it would have to be stored the job is
// refused with err.
func Unencodable(err error) Option {
	return func(o *options) { o.codec = unencodable{err} }
}

// unencodable takes the place of a codec.
type unencodable struct{ err error }
