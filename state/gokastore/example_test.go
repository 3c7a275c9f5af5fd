package gokastore_test

import (
	"fmt"
	"log"
	"os"

	"github.com/millrace/millrace/state/gokastore"
)

// The builder is for goka.WithStorageBuilder and goka.WithViewStorageBuilder.
// Here it is asked as goka does it.
func ExampleBuilder() {
	dir, err := os.MkdirTemp("", "tables")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	build := gokastore.Builder(dir, gokastore.CacheSize(256<<20))

	table, err := build("counts-table", 0)
	if err != nil {
		log.Fatal(err)
	}
	if err := table.Set("alice", []byte("3")); err != nil {
		log.Fatal(err)
	}
	value, err := table.Get("alice")
	fmt.Println(string(value), err)
	fmt.Println(table.Close())
	// Output:
	// 3 <nil>
	// <nil>
}
