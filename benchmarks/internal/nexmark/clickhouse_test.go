package nexmark

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/devclickhouse"
)

// database is what the queries are compared with: tables of all events of a stretch.
type database struct {
	address string
	tables  *strings.Replacer // {bid} and so on, by their names there
}

func newDatabase(t *testing.T, events []Event) database {
	t.Helper()
	db := database{address: devclickhouse.Shared(t).HTTPAddr()}
	var names []string
	for _, table := range []struct{ name, columns string }{
		{"person", "id Int64, name String, time Int64"},
		{"auction", "id Int64, seller Int64, time Int64"},
		{"bid", "n Int64, auction Int64, bidder Int64, price Int64, channel String, url String, time Int64, extra String"},
	} {
		unique := devclickhouse.UniqueName(table.name)
		names = append(names, "{"+table.name+"}", unique)
		db.do(t, fmt.Sprintf("CREATE TABLE %s (%s) ENGINE = MergeTree ORDER BY time", unique, table.columns), nil)
	}
	db.tables = strings.NewReplacer(names...)
	db.insert(t, events)
	return db
}

func (db database) insert(t *testing.T, events []Event) {
	t.Helper()
	var persons, auctions, bids bytes.Buffer
	for n, e := range events {
		switch e.Type {
		case TypePerson:
			fmt.Fprintln(&persons, tabbed(e.Person.ID, e.Person.Name, e.Person.Time))
		case TypeAuction:
			fmt.Fprintln(&auctions, tabbed(e.Auction.ID, e.Auction.Seller, e.Auction.Time))
		case TypeBid:
			b := e.Bid
			fmt.Fprintln(&bids, tabbed(n, b.Auction, b.Bidder, b.Price, b.Channel, b.URL, b.Time, b.Extra))
		}
	}
	db.do(t, "INSERT INTO {person} FORMAT TSV", &persons)
	db.do(t, "INSERT INTO {auction} FORMAT TSV", &auctions)
	db.do(t, "INSERT INTO {bid} FORMAT TSV", &bids)
}

// rows returns what a query answers, a line for each row, in any order.
func (db database) rows(t *testing.T, query string) []string {
	t.Helper()
	return strings.Split(strings.TrimSuffix(db.do(t, query+" FORMAT TSV", nil), "\n"), "\n")
}

// do runs a statement, which may have names of tables in braces.
func (db database) do(t *testing.T, statement string, body io.Reader) string {
	t.Helper()
	if db.tables != nil {
		statement = db.tables.Replace(statement)
	}
	address := url.URL{Scheme: "http", Host: db.address, RawQuery: url.Values{"query": {statement}}.Encode()}
	res, err := http.Post(address.String(), "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s\n%s", statement, answer)
	}
	return string(answer)
}

// tabbed is a row as ClickHouse has it. No text of an event needs to be escaped.
func tabbed(columns ...any) string {
	var b strings.Builder
	for i, c := range columns {
		if i > 0 {
			b.WriteByte('\t')
		}
		fmt.Fprint(&b, c)
	}
	return b.String()
}
