package state

// CodecFor returns the codec of a type.
func CodecFor[T any]() (Codec[T], error) { panic("TODO: helper") }
