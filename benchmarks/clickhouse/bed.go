package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// event is a row, with what a web analytics table mostly has.
type event struct {
	ID       uint64    `ch:"id"`
	At       time.Time `ch:"at"`
	User     uint64    `ch:"user"`
	Page     string    `ch:"page"`
	Referrer string    `ch:"referrer"`
	Agent    string    `ch:"agent"`
	Status   uint16    `ch:"status"`
	Seconds  float64   `ch:"seconds"`
}

const columns = `(id UInt64, at DateTime64(3), user UInt64, page String, referrer String, agent LowCardinality(String), status UInt16, seconds Float64)
	ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 10000`

// events makes the rows, the same each time.
func events(n int) []event {
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]event, n)
	for i := range all {
		all[i] = event{
			ID: uint64(i), At: time.UnixMilli(1_767_225_600_000 + int64(i)), User: r.Uint64() % 100_000, Page: fmt.Sprint("/products/", r.IntN(10_000)),
			Referrer: "https://search.example/?q=shoes", Agent: fmt.Sprint("Mozilla/5.0 (X11; Linux x86_64; rv:", r.IntN(200), ".0) Gecko/20100101"),
			Status: 200, Seconds: r.Float64(),
		}
	}
	return all
}

// bed is where the sides are tried.
type bed struct {
	conn driver.Conn
	made int
}

func newBed(c config) (*bed, error) {
	conn, err := connect(c.url)
	if err != nil {
		return nil, err
	}
	b := &bed{conn: conn}
	if err := conn.Ping(context.Background()); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func connect(url string) (driver.Conn, error) {
	o, err := clickhouse.ParseDSN(url)
	if err != nil {
		return nil, err
	}
	return clickhouse.Open(o)
}

func (b *bed) close() { _ = b.conn.Close() } // nothing waits in it

func (b *bed) newTable() (string, error) {
	b.made++
	name := fmt.Sprintf("bench_%x_%d", time.Now().UnixNano(), b.made)
	return name, b.conn.Exec(context.Background(), "CREATE TABLE "+name+" "+columns)
}

func (b *bed) drop(table string) error {
	return b.conn.Exec(context.Background(), "DROP TABLE "+table)
}

// content is what is compared.
type content struct{ rows, hash uint64 }

func (b *bed) read(table string) (c content, err error) {
	err = b.conn.QueryRow(context.Background(), "SELECT count(), sum(cityHash64(*)) FROM "+table).Scan(&c.rows, &c.hash)
	return c, err
}
