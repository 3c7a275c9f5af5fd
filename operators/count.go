package operators

// Count counts records.
//
//	views := operators.Aggregate(byPage, "views", window.Tumbling(time.Minute), operators.Count[Hit]())
func Count[T any]() Aggregation[T, int64, int64] {
	return Aggregation[T, int64, int64]{
		Add:    func(acc *int64, _ T) { *acc++ },
		Merge:  func(acc, other *int64) { *acc += *other },
		Result: func(acc *int64) int64 { return *acc },
	}
}
