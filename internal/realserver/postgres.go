package realserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Password is that of the servers' users.
const Password = "open-sesame"

// Postgres is a running PostgreSQL. Its methods are for one goroutine at a time.
type Postgres struct {
	server
	bin  string
	port int
}

// StartPostgres starts a server with settings over those that this package makes, such
// as "max_connections=20", and waits until it answers. Stop ends it, and so does the
// end of the process, of whatever kind.
func StartPostgres(ctx context.Context, settings ...string) (*Postgres, error) {
	bin, err := postgresPrograms()
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	p := &Postgres{bin: bin, server: server{name: "postgres", end: syscall.SIGQUIT}} // it is SIGQUIT that it does not tidy up after
	if err := p.start(ctx, settings); err != nil {
		p.Stop()
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return p, nil
}

func (p *Postgres) start(ctx context.Context, settings []string) (err error) {
	if p.port, err = freePort(); err != nil {
		return err
	}
	if p.as, err = notRoot(); err != nil {
		return err
	}
	if err := p.makeDir(); err != nil {
		return err
	}
	if err := p.removeAtExit(); err != nil {
		return err
	}
	if err := p.initialize(ctx); err != nil {
		return err
	}
	p.command = []string{
		filepath.Join(p.bin, "postgres"), "-D", p.data(), "-p", strconv.Itoa(p.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		// What is killed is the server, not the machine: the kernel has what was written.
		"-c", "fsync=off", "-c", "wal_level=logical", "-c", "shared_buffers=64MB", "-c", "timezone=UTC",
	}
	for _, s := range settings {
		p.command = append(p.command, "-c", s)
	}
	p.ready = p.answers
	return p.run(ctx)
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

// initialize makes the data folder.
func (p *Postgres) initialize(ctx context.Context) error {
	secret := filepath.Join(p.dir, "password")
	if err := os.WriteFile(secret, []byte(Password+"\n"), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "initdb"), "-D", p.data(), "-U", "postgres", "-A", "scram-sha-256",
		"--pwfile", secret, "-E", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
	cmd.Dir, cmd.SysProcAttr = p.dir, p.attributes(syscall.SIGKILL)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (p *Postgres) answers(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, filepath.Join(p.bin, "pg_isready"), "-h", "127.0.0.1", "-p", strconv.Itoa(p.port)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// URL returns how to connect to a database as the superuser.
func (p *Postgres) URL(database string) string {
	return fmt.Sprintf("postgres://postgres:%s@%s/%s?sslmode=disable", Password, p.Addr(), database)
}

// Addr returns the address, host and port.
func (p *Postgres) Addr() string { return loopback(p.port) }

// Exec runs statements with psql, which is none of our clients, and returns what it
// prints: a line for a row, with | between columns.
func (p *Postgres) Exec(ctx context.Context, database, statements string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "psql"), p.URL(database), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")
	cmd.Stdin = strings.NewReader(statements)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

// NewDatabase makes a database for one test, and returns its URL.
func (p *Postgres) NewDatabase(t testing.TB) string {
	t.Helper()
	name := UniqueName("test")
	if _, err := p.Exec(t.Context(), "postgres", "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return p.URL(name)
}

// NewPostgres starts a server for one test, which it ends with. When the test fails,
// the end of the server's log is in its output.
func NewPostgres(t testing.TB, settings ...string) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("\n" + p.Log())
		}
		p.Stop()
	})
	return p
}

// SharedPostgres returns the server that all tests of a binary use, so none must kill
// it, and each needs a database of its own.
func SharedPostgres(t testing.TB) *Postgres {
	t.Helper()
	p, err := sharedPostgres()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sharedPostgres starts the server of this test binary. It ends with it.
var sharedPostgres = sync.OnceValues(func() (*Postgres, error) { return StartPostgres(context.Background()) })

// postgresPrograms returns the folder of the programs. Debian keeps them out of PATH,
// by version.
func postgresPrograms() (string, error) {
	folders, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	sort.Slice(folders, func(i, j int) bool { return versionOf(folders[i]) > versionOf(folders[j]) })
	if len(folders) > 0 {
		return filepath.Dir(folders[0]), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", fmt.Errorf("%w (Debian's package is postgresql)", err)
	}
	path, err = filepath.EvalSymlinks(path)
	return filepath.Dir(path), err
}

// versionOf returns the version in the path of one of Debian's programs.
func versionOf(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // no number: 0, the last
	return n
}

// notRoot returns whom a server runs as that refuses to be root, nil where we are not
// root ourselves.
func notRoot() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	var errs []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uerr, gerr)
	}
	return nil, errors.Join(errs...)
}
