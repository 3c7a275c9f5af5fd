package main

import (
	"encoding/binary"
	"errors"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/millrace/millrace/state"
)

// ours is keyed state, used as the engine does.
type ours struct {
	storage *state.Storage
	backend *state.Backend[string]
	values  *state.Value[string, value]
	hash    func(string) uint64
	hashes  []uint64
}

func newOurs(c config) (side, error) { return openOurs(c, "ours") }

func openOurs(c config, name string) (*ours, error) {
	return attachOurs(c, name, state.RangeOf(0, 1, state.DefaultMaxParallelism))
}

func attachOurs(c config, name string, owned state.Range, from ...state.Restored) (*ours, error) {
	s, err := state.NewStorage(state.StorageConfig{Dir: filepath.Join(c.dir, name), Memory: c.memory})
	if err != nil {
		return nil, err
	}
	b := state.NewBackend[string](state.DefaultMaxParallelism, owned)
	if err := b.Attach(s, "backend", from); err != nil {
		return nil, err
	}
	o := &ours{storage: s, backend: b, values: state.NewValue[value](b, "count")}
	if o.hash, err = state.HasherFor[string](); err != nil {
		return nil, err
	}
	return o, b.Ready()
}

func (o *ours) update(keys []string) (sum int64, err error) {
	o.hashes = o.hashes[:0]
	for _, k := range keys {
		o.hashes = append(o.hashes, o.hash(k))
	}
	o.backend.Prefetch(keys, o.hashes)
	for i, k := range keys {
		o.backend.SetKey(k, o.hashes[i])
		v := o.values.Upsert()
		if v[0] == 0 {
			*v = fresh(k)
		}
		sum += v[0]
		v[0]++
	}
	o.backend.Relieve()
	return sum, nil
}

func (o *ours) close() error {
	err := o.backend.Close()
	o.storage.Close()
	return err
}

// direct reads and writes Pebble for every event.
type direct struct {
	db  *pebble.DB
	buf []byte
}

func newDirect(c config) (side, error) {
	cache := pebble.NewCache(c.memory)
	defer cache.Unref()
	o := &pebble.Options{
		Cache:                      cache,
		DisableWAL:                 true,
		MemTableSize:               32 << 20,
		LBaseMaxBytes:              64 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
		FormatMajorVersion:         pebble.FormatNewest,
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(filepath.Join(c.dir, "pebble"), o)
	return &direct{db: db}, err
}

func (d *direct) update(keys []string) (sum int64, err error) {
	for _, k := range keys {
		v, err := d.read(k)
		if err != nil {
			return sum, err
		}
		sum += v[0]
		v[0]++
		d.buf = d.buf[:0]
		for _, n := range v {
			d.buf = binary.LittleEndian.AppendUint64(d.buf, uint64(n))
		}
		if err := d.db.Set([]byte(k), d.buf, pebble.NoSync); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

func (d *direct) read(key string) (v value, err error) {
	raw, closer, err := d.db.Get([]byte(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return fresh(key), nil
	}
	if err != nil {
		return v, err
	}
	for i := range v {
		v[i] = int64(binary.LittleEndian.Uint64(raw[8*i:]))
	}
	return v, closer.Close()
}

func (d *direct) close() error { return d.db.Close() }
