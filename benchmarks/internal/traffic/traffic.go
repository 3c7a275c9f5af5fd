// Package traffic is the events of a web site that benchmarks count.
package traffic

import "github.com/goccy/go-json"

// Event is a page that a user has seen, of about 200 bytes as JSON.
type Event struct {
	User     string `json:"user"`
	Page     string `json:"page"`
	Time     int64  `json:"time"` // event time in ms
	Referrer string `json:"referrer"`
	Agent    string `json:"agent"`
	Status   int    `json:"status"`
}

// JSON is a codec for goka, of the JSON library that the other sides use.
type JSON[T any] struct{}

// Encode implements goka's Codec.
func (JSON[T]) Encode(v any) ([]byte, error) { return json.Marshal(v) }

// Decode implements goka's Codec.
func (JSON[T]) Decode(data []byte) (any, error) {
	var v T
	err := json.Unmarshal(data, &v)
	return v, err
}
