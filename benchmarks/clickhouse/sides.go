package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/pipeline"
	sink "github.com/millrace/millrace/sinks/clickhouse"
	"github.com/millrace/millrace/sources/memory"
)

// byColumn fills batches of clickhouse-go with slices, the fastest way it has.
func byColumn(c config, table string, rows []event) error {
	var ids, users []uint64
	var times []time.Time
	var pages, referrers, agents []string
	var statuses []uint16
	var seconds []float64
	return inBatches(c, table, rows, func(b driver.Batch, block []event) error {
		ids, users, times, pages = ids[:0], users[:0], times[:0], pages[:0]
		referrers, agents, statuses, seconds = referrers[:0], agents[:0], statuses[:0], seconds[:0]
		for i := range block {
			e := &block[i]
			ids, times, users, pages = append(ids, e.ID), append(times, e.At), append(users, e.User), append(pages, e.Page)
			referrers, agents = append(referrers, e.Referrer), append(agents, e.Agent)
			statuses, seconds = append(statuses, e.Status), append(seconds, e.Seconds)
		}
		for i, values := range []any{ids, times, users, pages, referrers, agents, statuses, seconds} {
			if err := b.Column(i).Append(values); err != nil {
				return err
			}
		}
		return nil
	})
}

func byStruct(c config, table string, rows []event) error {
	return inBatches(c, table, rows, func(b driver.Batch, block []event) error {
		for i := range block {
			if err := b.AppendStruct(&block[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func inBatches(c config, table string, rows []event, fill func(b driver.Batch, block []event) error) error {
	conn, err := connect(c.url)
	if err != nil {
		return err
	}
	for block := range slices.Chunk(rows, c.block) {
		b, err := conn.PrepareBatch(context.Background(), "INSERT INTO "+table)
		if err == nil {
			err = fill(b, block)
		}
		if err == nil {
			err = b.Send()
		}
		if err != nil {
			return errors.Join(err, conn.Close())
		}
	}
	return conn.Close()
}

func withChGo(c config, table string, rows []event) error {
	o, err := clickhouse.ParseDSN(c.url)
	if err != nil {
		return err
	}
	options := ch.Options{Address: o.Addr[0], Database: o.Auth.Database, User: o.Auth.Username, Password: o.Auth.Password, ReadTimeout: time.Minute}
	if o.Compression != nil && o.Compression.Method == clickhouse.CompressionLZ4 {
		options.Compression = ch.CompressionLZ4
	}
	client, err := ch.Dial(context.Background(), options)
	if err != nil {
		return err
	}
	var ids, users proto.ColUInt64
	var pages, referrers proto.ColStr
	var statuses proto.ColUInt16
	var seconds proto.ColFloat64
	times := new(proto.ColDateTime64).WithPrecision(proto.PrecisionMilli)
	agents := new(proto.ColStr).LowCardinality()
	input := proto.Input{
		{Name: "id", Data: &ids}, {Name: "at", Data: times}, {Name: "user", Data: &users}, {Name: "page", Data: &pages},
		{Name: "referrer", Data: &referrers}, {Name: "agent", Data: agents}, {Name: "status", Data: &statuses}, {Name: "seconds", Data: &seconds},
	}
	for block := range slices.Chunk(rows, c.block) {
		input.Reset()
		for i := range block {
			e := &block[i]
			ids.Append(e.ID)
			times.Append(e.At)
			users.Append(e.User)
			pages.Append(e.Page)
			referrers.Append(e.Referrer)
			agents.Append(e.Agent)
			statuses.Append(e.Status)
			seconds.Append(e.Seconds)
		}
		if err := client.Do(context.Background(), ch.Query{Body: input.Into(table), Input: input}); err != nil {
			return errors.Join(err, client.Close())
		}
	}
	return client.Close()
}

// millrace runs a job of one subtask.
func millrace(c config, table string, rows []event, columnar, exactly bool) error {
	cfg := sink.Config{URL: c.url, Table: table, BlockRows: c.block, BlockBytes: 256 << 20}
	opts := []pipeline.Option{
		pipeline.Name("bench"), pipeline.DefaultParallelism(1), pipeline.Logger(slog.New(slog.NewTextHandler(io.Discard, nil))),
	}
	dir, err := os.MkdirTemp("", "bench-clickhouse")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	if exactly {
		opts = append(opts, pipeline.Checkpoints(dir, pipeline.CheckpointInterval(time.Second)))
	} else {
		cfg.Delivery = sink.AtLeastOnce
	}
	p := pipeline.New(opts...)
	out := sink.Structs[event](cfg)
	if columnar {
		out = sink.Columns(cfg,
			sink.Value("id", func(e *event) uint64 { return e.ID }),
			sink.Value("at", func(e *event) time.Time { return e.At }),
			sink.Value("user", func(e *event) uint64 { return e.User }),
			sink.Value("page", func(e *event) string { return e.Page }),
			sink.Value("referrer", func(e *event) string { return e.Referrer }),
			sink.Value("agent", func(e *event) string { return e.Agent }),
			sink.Value("status", func(e *event) uint16 { return e.Status }),
			sink.Value("seconds", func(e *event) float64 { return e.Seconds }))
	}
	pipeline.To(pipeline.From(p, "in", memory.From(rows)), "out", pipeline.Sink[event](out))
	return p.Run(context.Background())
}
