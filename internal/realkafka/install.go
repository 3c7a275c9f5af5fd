package realkafka

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed pom.xml
var pom []byte

//go:embed log4j2.xml
var logging []byte

// install returns the folder that holds the broker's jars and logging.xml, and
// has Maven make it first if it isn't there. It is below $MILLRACE_KAFKA, or the
// user's cache folder.
func install(ctx context.Context) (string, error) {
	root, err := cacheRoot()
	if err != nil {
		return "", fmt.Errorf("install Kafka: %w", err)
	}
	sum := sha256.Sum256(append(pom, logging...))
	dir := filepath.Join(root, hex.EncodeToString(sum[:6]))
	if exists(dir) {
		return dir, nil
	}
	if err := download(ctx, root, dir); err != nil {
		return "", fmt.Errorf("install Kafka: %w", err)
	}
	return dir, nil
}

func cacheRoot() (string, error) {
	if root := os.Getenv("MILLRACE_KAFKA"); root != "" {
		return root, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder to keep it in, set MILLRACE_KAFKA: %w", err)
	}
	return filepath.Join(cache, "millrace", "kafka"), nil
}

// download fills a folder beside dir and renames it, so that dir is complete
// when it is there, and several test binaries may do it at once.
func download(ctx context.Context, root, dir string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	half, err := os.MkdirTemp(root, "download-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(half) }() // nothing, once it is renamed
	project := filepath.Join(half, "pom.xml")
	err = errors.Join(os.Chmod(half, 0o755), os.WriteFile(project, pom, 0o644),
		os.WriteFile(filepath.Join(half, "logging.xml"), logging, 0o644))
	if err != nil {
		return err
	}
	mvn := exec.CommandContext(ctx, "mvn", "--batch-mode", "--quiet", "--file", project,
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+half)
	if out, err := mvn.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w (Debian's packages are maven and openjdk-17-jre-headless)", err)
	} else if err != nil {
		return fmt.Errorf("mvn: %w\n%s", err, out)
	}
	if err := os.Rename(half, dir); err != nil && !exists(dir) { // another one was quicker
		return err
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
