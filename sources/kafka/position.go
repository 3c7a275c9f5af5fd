package kafka

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// position is where a partition is to be read on. It is kept as JSON:
//
//	{"v":1,"offset":4096,"epoch":3,"topic":"5f1c0e9a7b624d0c8a3e21f09b7d6c54"}
//
// offset is the next one to be read. epoch is the leader epoch of the record
// before it, by which the broker can tell that the log was cut since; it is
// missing where no record was read. topic is the topic's id in hexadecimal, by
// which a topic that was deleted and made again is recognised; it is missing
// where the broker gives none.
//
// A reader refuses a version it does not know; fields are never given a new
// meaning.
type position struct {
	offset int64
	epoch  int32 // -1 is unknown
	topic  topicID
}

type topicID [16]byte

const positionVersion = 1

// append encodes the position. It is done for every batch, hence by hand.
func (p position) append(b []byte) []byte {
	b = append(b, `{"v":1,"offset":`...)
	b = strconv.AppendInt(b, p.offset, 10)
	if p.epoch >= 0 {
		b = append(b, `,"epoch":`...)
		b = strconv.AppendInt(b, int64(p.epoch), 10)
	}
	if p.topic != (topicID{}) {
		b = append(b, `,"topic":"`...)
		b = hex.AppendEncode(b, p.topic[:])
		b = append(b, '"')
	}
	return append(b, '}')
}

func decodePosition(b []byte) (position, error) {
	var j struct {
		Version int    `json:"v"`
		Offset  int64  `json:"offset"`
		Epoch   *int32 `json:"epoch"`
		Topic   string `json:"topic"`
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return position{}, fmt.Errorf("position %q: %w", b, err)
	}
	p := position{offset: j.Offset, epoch: -1}
	if j.Version != positionVersion {
		return position{}, fmt.Errorf("position %q: version %d is unknown, want %d", b, j.Version, positionVersion)
	}
	if j.Epoch != nil {
		p.epoch = *j.Epoch
	}
	if p.offset < 0 || (j.Epoch != nil && p.epoch < 0) {
		return position{}, fmt.Errorf("position %q: a number is negative", b)
	}
	if j.Topic != "" {
		id, err := hex.DecodeString(j.Topic)
		if err != nil || len(id) != len(p.topic) {
			return position{}, fmt.Errorf("position %q: bad topic id", b)
		}
		copy(p.topic[:], id)
	}
	return p, nil
}

// partition names a partition of a topic.
type partition struct {
	topic  string
	number int32
}

// String is the name of the partition's split.
func (p partition) String() string { return p.topic + "/" + strconv.Itoa(int(p.number)) }

func parsePartition(split string) (partition, error) {
	topic, number, ok := strings.Cut(split, "/") // names of topics have no slash
	n, err := strconv.ParseInt(number, 10, 32)
	if !ok || topic == "" || err != nil || n < 0 {
		return partition{}, fmt.Errorf("split %q is no partition of a topic", split)
	}
	return partition{topic, int32(n)}, nil
}

// decodePositions decodes what a checkpoint has of the source.
func decodePositions(encoded map[string][]byte) (map[partition]position, error) {
	positions := make(map[partition]position, len(encoded))
	for split, b := range encoded {
		p, err := parsePartition(split)
		if err != nil {
			return nil, err
		}
		if positions[p], err = decodePosition(b); err != nil {
			return nil, fmt.Errorf("split %q: %w", split, err)
		}
	}
	return positions, nil
}
