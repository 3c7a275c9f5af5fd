package devclickhouse

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInstallWithoutNpm(t *testing.T) {
	t.Setenv(LibraryVariable, "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("PATH", t.TempDir())
	_, err := Install(t.Context(), nil)
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "install Node.js's npm") {
		t.Errorf("got %v, want that npm is missing and what to do", err)
	}
}

// A npm that fetches another archive than the one this was made for.
func TestInstallWrongArchive(t *testing.T) {
	bin, cache := t.TempDir(), t.TempDir()
	npm := "#!/bin/sh\necho wrong > chdb.tgz\n"
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte(npm), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(LibraryVariable, "")
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("PATH", bin)
	var said bytes.Buffer
	_, err := Install(t.Context(), &said)
	if err == nil || errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("got %v, want that the checksum is wrong", err)
	}
	if !strings.Contains(said.String(), packageVersion) {
		t.Errorf("it said %q", said.String())
	}
	left, err := os.ReadDir(filepath.Join(cache, "millrace", "clickhouse"))
	if err != nil || len(left) != 1 || left[0].Name() != "lock" {
		t.Errorf("%v is left behind, %v", left, err)
	}
}

func TestInstallNamedLibrary(t *testing.T) {
	library := filepath.Join(t.TempDir(), "libchdb.so")
	t.Setenv(LibraryVariable, library)
	if _, err := Install(t.Context(), nil); err == nil || !strings.Contains(err.Error(), LibraryVariable) {
		t.Errorf("got %v, want that the variable names no file", err)
	}
	if err := os.WriteFile(library, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Install(t.Context(), nil); got != library || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, library)
	}
}

func TestSave(t *testing.T) {
	var archive bytes.Buffer
	zipped := gzip.NewWriter(&archive)
	entries := tar.NewWriter(zipped)
	for name, text := range map[string]string{"package/index.js": "no", "package/libchdb.so": "library"} {
		err := errors.Join(entries.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}))
		if _, werr := entries.Write([]byte(text)); err != nil || werr != nil {
			t.Fatal(err, werr)
		}
	}
	if err := errors.Join(entries.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := extract(bytes.NewReader(archive.Bytes()), dir); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "libchdb.so")); err != nil || string(got) != "library" {
		t.Errorf("got %q, %v", got, err)
	}
}
