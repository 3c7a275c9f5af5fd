// Package devclickhouse is a ClickHouse to develop and test with. It is the real
// engine, of the version that [Version] names, loaded as a library, behind a small
// server that speaks ClickHouse's native protocol and its HTTP interface on the
// loopback interface: enough for clickhouse-go, for ch-go and for curl.
//
// A test takes the server that all tests of its package share, and a table name that
// no other test has, or starts one of its own that it may stop, kill and start again:
//
//	server := devclickhouse.Shared(t)
//	options, err := clickhouse.ParseDSN(server.DSN())
//
//	server := devclickhouse.New(t, devclickhouse.Options{})
//	server.Kill()                // as kill -9 does
//	err := server.Restart(ctx)   // the same addresses and data
//
// The server is a process of its own, because the engine keeps its state in global
// variables, one data directory to a process. cmd/devclickhouse is that process, and
// useful by itself:
//
//	go run ./cmd/devclickhouse -dir clickhouse-data -http 127.0.0.1:8123 -native 127.0.0.1:9000
//
// The library comes as an npm package, which is downloaded once, by npm, checked and
// kept below the user's cache folder. See [Install].
//
// A server takes a third of a second to start and about 400 MB of memory. What it has
// acknowledged is there again after kill -9 of its process, deduplication tokens
// included.
//
// # What it is not
//
// It is a development tool, not a database to keep data in. Beyond what the library
// leaves out (replication, Keeper, distributed tables, system.query_log):
//
//   - An insert is held in memory until its last block has come, and inserted whole.
//     A connection cut before that leaves nothing. Like the server's own, an insert
//     into one partition is one part up to about max_insert_block_size rows. Its
//     token stands for it together with the number of blocks that it came in.
//   - async_insert, which ClickHouse has on by default by now, is accepted, and the
//     insert is synchronous all the same.
//   - Columns of type AggregateFunction are created, filled through expressions, from
//     input() too, and read through -Merge and finalizeAggregation. Their raw states
//     don't travel through the native protocol: their encoding does not tell how long
//     they are.
//   - DROP and DETACH do not wait for the data to be gone, with SYNC either, and what
//     was dropped keeps its room in the folder.
//   - There is one user, and the engine's own access control knows only "default".
//     There is no TLS.
//   - Progress is what the library tells, which is not always of every row. Totals
//     come through the HTTP interface only. Query ids are the server's, not the
//     engine's.
//   - External tables are refused. Several statements in one query, which the server
//     refuses, are run.
package devclickhouse
