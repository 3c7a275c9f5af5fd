package kafka

import (
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/kafkaoffset"
	"github.com/millrace/millrace/pipeline"
)

// Headers that [DeadLetters] adds to those of the original record. All values are
// text, numbers in decimal. What is not known is left out.
const (
	// HeaderError says why the record was rejected.
	HeaderError = "millrace.error"
	// HeaderOperator and HeaderSubtask say who rejected it.
	HeaderOperator = "millrace.operator"
	HeaderSubtask  = "millrace.subtask"
	// HeaderTopic, HeaderPartition and HeaderOffset say where it was read, if that
	// was Kafka.
	HeaderTopic     = "millrace.topic"
	HeaderPartition = "millrace.partition"
	HeaderOffset    = "millrace.offset"
	// HeaderSplit is for other sources: a file for example, whose line, or
	// whatever the source counts, is HeaderOffset.
	HeaderSplit = "millrace.split"
	// HeaderTime is the record's event time in milliseconds since the epoch.
	HeaderTime = "millrace.time"
	// HeaderCut says that the letter was larger than its topic takes, and how many
	// bytes the value had before its end was cut off. If that did not suffice, the
	// original headers and the key are missing.
	HeaderCut = "millrace.cut"
)

// DeadLetters writes dead letters to a topic, as the records they once were: key,
// value and headers are the original ones, so that what was repaired can be
// written back as it is, and headers tell what happened (see [HeaderError] and
// those after it). A tombstone stays one. What an operator rejected has no bytes
// any more; its value is the record as text.
//
//	pipeline.To(pipeline.DeadLetters(p), "rejected", kafka.DeadLetters(out, "visits-rejected"))
//
// With [ExactlyOnce], dead letters are as exact as results are. A letter that is
// larger than the topic takes is cut rather than rejected (see [HeaderCut]), so
// give the topic a larger max.message.bytes than the ones the job reads.
func DeadLetters(p *Producer, topic string) *Sink[pipeline.DeadLetter] {
	s := Encode(p, topic, encodeLetter)
	s.cut = cutLetter
	return s
}

func encodeLetter(d pipeline.DeadLetter, r *kgo.Record) error {
	r.Key, r.Value = d.Key, d.Raw
	if d.Raw == nil && d.Split == "" {
		r.Value = []byte(d.Record)
	}
	for _, h := range d.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	add := func(key, value string) {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	add(HeaderError, shortened(d.Error))
	add(HeaderOperator, d.Operator)
	add(HeaderSubtask, strconv.Itoa(d.Subtask))
	if topic, partition, err := kafkaoffset.ParseSplit(d.Split); err == nil {
		add(HeaderTopic, topic)
		add(HeaderPartition, strconv.Itoa(int(partition)))
	} else if d.Split != "" {
		add(HeaderSplit, d.Split)
	}
	if d.Split != "" {
		add(HeaderOffset, strconv.FormatInt(d.Offset, 10))
	}
	if d.Time != 0 {
		add(HeaderTime, strconv.FormatInt(d.Time, 10))
	}
	return nil
}

// errorLimit is what an error may take of a letter: one that quotes the record
// would make it twice as large.
const errorLimit = 4 << 10

func shortened(text string) string {
	if len(text) <= errorLimit {
		return text
	}
	return strings.ToValidUTF8(text[:errorLimit], "") + "…"
}

// cutLetter makes a letter fit into a topic.
func cutLetter(r *kgo.Record, limit int) {
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: HeaderCut, Value: strconv.AppendInt(nil, int64(len(r.Value)), 10)})
	without := size(r) - len(r.Value)
	if without > limit {
		ours := r.Headers[:0:0]
		for _, h := range r.Headers {
			if strings.HasPrefix(h.Key, "millrace.") {
				ours = append(ours, h)
			}
		}
		r.Key, r.Headers = nil, ours
		without = size(r) - len(r.Value)
	}
	r.Value = r.Value[:min(max(limit-without, 0), len(r.Value))]
}
