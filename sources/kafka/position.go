package kafka

import (
	"fmt"

	"github.com/millrace/millrace/internal/kafkaoffset"
)

// position is where a partition is to be read on.
type position struct {
	offset int64
	epoch  int32 // -1 is unknown
	topic  topicID
}

type topicID [16]byte

func (p position) append(b []byte) []byte {
	return kafkaoffset.Position{Offset: p.offset, Epoch: p.epoch, Topic: p.topic}.Append(b)
}

func decodePosition(b []byte) (position, error) {
	p, err := kafkaoffset.Decode(b)
	return position{p.Offset, p.Epoch, p.Topic}, err
}

// partition names a partition of a topic.
type partition struct {
	topic  string
	number int32
}

// String is the name of the partition's split.
func (p partition) String() string { return kafkaoffset.Split(p.topic, p.number) }

func parsePartition(split string) (partition, error) {
	topic, n, err := kafkaoffset.ParseSplit(split)
	return partition{topic, n}, err
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
