// Package realserver runs PostgreSQL's and Redis' own servers for integration tests:
// on the loopback interface, with their data in a temporary folder. The machine must
// have them (Debian: postgresql and redis-server, whose services need not run).
//
// A test that only needs a server takes the one that all tests of its package share,
// which starts with the first of them, and names in it that no other test has:
//
//	url := realserver.SharedPostgres(t).NewDatabase(t)
//	prefix := realserver.UniqueName("visits")
//
// A test that kills its server starts its own:
//
//	server := realserver.NewRedis(t)
//	server.Kill()
//	...
//	err := server.Restart(ctx)
//
// None is left behind, however the test ends: the kernel ends the servers with the
// process that started them, and their data is removed. PostgreSQL refuses to run as
// root; where a test does, the server runs as user postgres, or nobody.
package realserver
