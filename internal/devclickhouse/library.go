package devclickhouse

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// The package that holds the engine, as npm names it. The checksum is that of the
// archive which npm pack writes.
const (
	packageName    = "@chdb/lib-linux-x64-gnu"
	packageVersion = "26.5.3"
	packageSHA256  = "b874e449710950da3abd7e20376f7bb3387d9e03adcc7082f022be18dfdf316a"
	packageBytes   = 166_572_008
)

// Version is the version of ClickHouse that the library holds.
const Version = "26.5"

// LibraryVariable is the environment variable that names a libchdb.so to load in
// place of the one that [Install] fetches.
const LibraryVariable = "MILLRACE_LIBCHDB"

// ErrUnavailable says that the engine can't be had on this machine: there is none
// for its processor or system, or no npm to fetch it with. The message around it says
// what to do. Tests that need the engine are skipped for it, and for nothing else.
var ErrUnavailable = errors.New("the ClickHouse engine is not available")

// Install returns the path of the engine's library, and has npm fetch it first, about
// 170 MB, if it isn't there: below the user's cache folder, or what LibraryVariable
// names. What it does meanwhile it tells progress, about once a second, which may be
// nil. One of several processes that want it does it, and the others wait. The error is [ErrUnavailable] where there
// is no such library for the machine, or no npm.
func Install(ctx context.Context, progress io.Writer) (string, error) {
	if path := os.Getenv(LibraryVariable); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s: %w", LibraryVariable, err)
		}
		return path, nil
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("%w: %s is for Linux on x86-64, this is %s on %s; set %s to a libchdb of version %s",
			ErrUnavailable, packageName, runtime.GOOS, runtime.GOARCH, LibraryVariable, packageVersion)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder to keep the ClickHouse engine in, set %s: %w", LibraryVariable, err)
	}
	root := filepath.Join(cache, "millrace", "clickhouse")
	path := filepath.Join(root, packageVersion, "libchdb.so")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if progress == nil {
		progress = io.Discard
	}
	if err := download(ctx, root, filepath.Dir(path), progress); err != nil {
		return "", fmt.Errorf("install the ClickHouse engine: %w", err)
	}
	return path, nil
}

// download fills a folder beside dir and renames it, so that dir is complete when it
// is there.
func download(ctx context.Context, root, dir string, progress io.Writer) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("%w: it is fetched with npm, which is not installed: install Node.js's npm (Debian's package is npm), or set %s to a libchdb.so",
			ErrUnavailable, LibraryVariable)
	}
	unlock, err := lockFolder(root)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return nil // somebody else has done it meanwhile
	}
	half, err := os.MkdirTemp(root, "download-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(half) }() // nothing but the archive, once the rest is renamed
	fmt.Fprintf(progress, "fetching the ClickHouse engine: %s %s, %d MB, once\n", packageName, packageVersion, packageBytes>>20)
	began := time.Now()
	archive, err := pack(ctx, npm, half, progress)
	if err != nil {
		return err
	}
	fmt.Fprintln(progress, "unpacking it")
	unpacked := filepath.Join(half, "unpacked")
	if err := unpack(archive, unpacked); err != nil {
		return err
	}
	if err := os.Rename(unpacked, dir); err != nil {
		return err
	}
	fmt.Fprintf(progress, "the ClickHouse engine is in %s after %v\n", dir, time.Since(began).Round(100*time.Millisecond))
	return nil
}

// lockFolder makes a folder and waits until nobody else has it. The lock ends with the
// process, if not before.
func lockFolder(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", lock.Name(), err), lock.Close())
	}
	return func() { _ = lock.Close() }, nil // which unlocks it
}

// pack has npm write the package's archive into dir.
func pack(ctx context.Context, npm, dir string, progress io.Writer) (string, error) {
	cache := filepath.Join(dir, "npm") // npm keeps what it fetches there, and 170 MB twice is too much
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", "--cache", cache, "--pack-destination", dir,
		packageName+"@"+packageVersion)
	cmd.Dir = dir // where no project's settings apply
	done := make(chan struct{})
	defer close(done)
	go report(cache, progress, done)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm pack %s@%s: %w\n%s", packageName, packageVersion, err, out)
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil {
		return "", err
	}
	if len(archives) != 1 {
		return "", fmt.Errorf("npm pack %s@%s wrote %d archives, want 1", packageName, packageVersion, len(archives))
	}
	return archives[0], nil
}

// report says now and then how much of the archive has come.
func report(dir string, progress io.Writer, done <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			fmt.Fprintf(progress, "%d of %d MB\n", size(dir)>>20, packageBytes>>20)
		}
	}
}

// size adds up the files below dir. Those that vanish meanwhile are left out.
func size(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return min(total, packageBytes)
}

// unpack checks the archive and takes the library out of it.
func unpack(archive, dir string) error {
	if err := verify(archive); err != nil {
		return err
	}
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	return extract(file, dir)
}

func extract(archive io.Reader, dir string) error {
	unzipped, err := gzip.NewReader(archive)
	if err != nil {
		return err
	}
	entries := tar.NewReader(unzipped)
	for {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return errors.New("no libchdb.so in the archive")
		}
		if err != nil {
			return err
		}
		if entry.Name == "package/libchdb.so" {
			return save(entries, dir)
		}
	}
}

// verify compares the archive with the checksum.
func verify(archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != packageSHA256 {
		return fmt.Errorf("%s@%s has the SHA-256 %s, want %s: it is not the archive this was made for",
			packageName, packageVersion, got, packageSHA256)
	}
	return nil
}

func save(library io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, "libchdb.so"))
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, library); err != nil {
		return errors.Join(err, file.Close())
	}
	return file.Close()
}
