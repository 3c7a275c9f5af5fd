package files

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/millrace/millrace/pipeline"
)

// Source reads the files that a pattern matches. It is made by [JSON],
// [Lines], [Decode], [CSV], [TSV], [AccessLog], [DecodeCSV], [DecodeTSV] and
// [DecodeAccessLog]. Every file is a split, named by its path.
type Source[T any] struct {
	pattern string
	format  format[T]
	cfg     config
	lister  *lister
	claims  *claims
}

func newSource[T any](pattern string, f format[T], opts []Option) *Source[T] {
	s := &Source[T]{pattern: pattern, format: f, cfg: defaults(), lister: &lister{}, claims: &claims{}}
	for _, o := range opts {
		o(&s.cfg)
	}
	return s
}

// Open implements [pipeline.Source].
func (s *Source[T]) Open(ctx context.Context, env *pipeline.SourceEnv) (pipeline.Reader[T], error) {
	if err := s.cfg.check(); err != nil {
		return nil, err
	}
	if err := s.format.refuse(&s.cfg); err != nil {
		return nil, err
	}
	r := newReader(s, env)
	positions, err := decodePositions(env.Positions)
	if err != nil {
		return nil, err
	}
	if s.cfg.follow {
		err = r.openFollowing(positions)
	} else {
		err = r.openBounded(ctx, positions)
	}
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func decodePositions(encoded map[string][]byte) (map[string]position, error) {
	positions := make(map[string]position, len(encoded))
	for split, b := range encoded {
		p, err := decodePosition(b)
		if err != nil {
			return nil, fmt.Errorf("split %q: %w", split, err)
		}
		positions[split] = p
	}
	return positions, nil
}

// figures are the reader's metrics.
type figures struct {
	bytesRead, records, skipped *pipeline.Counter
	rotations, truncations      *pipeline.Counter
	bytesTotal, filesDone       *pipeline.Gauge
}

func newFigures(m *pipeline.Metrics) figures {
	return figures{
		bytesRead: m.Counter("bytes_read"), records: m.Counter("records"), skipped: m.Counter("skipped"),
		rotations: m.Counter("rotations"), truncations: m.Counter("truncations"),
		bytesTotal: m.Gauge("bytes_total"), filesDone: m.Gauge("files_done"),
	}
}

func loggerOf(env *pipeline.SourceEnv) *slog.Logger {
	if env.Logger != nil {
		return env.Logger
	}
	return slog.Default()
}

func metricsOf(env *pipeline.SourceEnv) *pipeline.Metrics {
	if env.Metrics != nil {
		return env.Metrics
	}
	return &pipeline.Metrics{}
}
