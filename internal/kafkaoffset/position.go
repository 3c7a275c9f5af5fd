// Package kafkaoffset reads what the Kafka source keeps of its partitions in
// checkpoints, for who commits it to a consumer group.
package kafkaoffset

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Position is where a partition is to be read on. It is kept as JSON:
//
//	{"v":1,"offset":4096,"epoch":3,"topic":"5f1c0e9a7b624d0c8a3e21f09b7d6c54"}
//
// A reader refuses a version it does not know; fields are never given a new
// meaning.
type Position struct {
	// Offset is the next one to be read.
	Offset int64
	// Epoch is the leader epoch of the record before it, by which the broker can
	// tell that the log was cut since; -1 where no record was read.
	Epoch int32
	// Topic is the topic's id, by which a topic that was deleted and made again is
	// recognised; zero where the broker gives none.
	Topic [16]byte
}

// version is that of the encoding.
const version = 1

// Append encodes the position. It is done for every batch, hence by hand.
func (p Position) Append(b []byte) []byte {
	b = append(b, `{"v":1,"offset":`...)
	b = strconv.AppendInt(b, p.Offset, 10)
	if p.Epoch >= 0 {
		b = append(b, `,"epoch":`...)
		b = strconv.AppendInt(b, int64(p.Epoch), 10)
	}
	if p.Topic != [16]byte{} {
		b = append(b, `,"topic":"`...)
		b = hex.AppendEncode(b, p.Topic[:])
		b = append(b, '"')
	}
	return append(b, '}')
}

// Decode reads a position.
func Decode(b []byte) (Position, error) {
	var j struct {
		Version int    `json:"v"`
		Offset  int64  `json:"offset"`
		Epoch   *int32 `json:"epoch"`
		Topic   string `json:"topic"`
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return Position{}, fmt.Errorf("position %q: %w", b, err)
	}
	p := Position{Offset: j.Offset, Epoch: -1}
	if j.Version != version {
		return Position{}, fmt.Errorf("position %q: version %d is unknown, want %d", b, j.Version, version)
	}
	if j.Epoch != nil {
		p.Epoch = *j.Epoch
	}
	if p.Offset < 0 || (j.Epoch != nil && p.Epoch < 0) {
		return Position{}, fmt.Errorf("position %q: a number is negative", b)
	}
	if j.Topic != "" {
		id, err := hex.DecodeString(j.Topic)
		if err != nil || len(id) != len(p.Topic) {
			return Position{}, fmt.Errorf("position %q: bad topic id", b)
		}
		copy(p.Topic[:], id)
	}
	return p, nil
}

// Split is the name of a partition's split.
func Split(topic string, partition int32) string {
	return topic + "/" + strconv.Itoa(int(partition))
}

// ParseSplit takes a split's name apart.
func ParseSplit(split string) (topic string, partition int32, err error) {
	topic, number, ok := strings.Cut(split, "/") // names of topics have no slash
	n, err := strconv.ParseInt(number, 10, 32)
	if !ok || topic == "" || err != nil || n < 0 {
		return "", 0, fmt.Errorf("split %q is no partition of a topic", split)
	}
	return topic, int32(n), nil
}
