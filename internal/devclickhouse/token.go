package devclickhouse

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A table of the MergeTree family that is not Replicated notes an insert's token in a
// log of its own, and then gives the part with the rows its name. A server that is
// killed in between has lost the rows, and takes them for duplicates when they come
// again. No client can do anything about that, and to the tests it would be as if the
// client had lost them.

// tokenWithoutPart says whether one of the tables in a server's folder is in between.
// The server must stand still.
func tokenWithoutPart(dir string) (bool, error) {
	logs, err := filepath.Glob(filepath.Join(dir, "store", "*", "*", "deduplication_logs"))
	if err != nil {
		return false, err
	}
	for _, l := range logs {
		noted, err := lastNoted(l)
		if err != nil {
			return false, err
		}
		there, err := os.ReadDir(filepath.Dir(l))
		if err != nil {
			return false, err
		}
		for _, n := range noted {
			if !slices.ContainsFunc(there, func(e os.DirEntry) bool { return n.within(e.Name()) }) {
				return true, nil
			}
		}
	}
	return false, nil
}

// part is what the name of a part of a table says: the partition, and the blocks from
// which it was made or merged.
type part struct {
	partition   string
	first, last int64
}

// parsePart reads PARTITION_FIRST_LAST_LEVEL, behind which there may be a mutation.
func parsePart(name string) (part, error) {
	fields := strings.Split(name, "_")
	if len(fields) != 4 && len(fields) != 5 {
		return part{}, fmt.Errorf("%q is no part's name", name)
	}
	first, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return part{}, err
	}
	last, err := strconv.ParseInt(fields[2], 10, 64)
	return part{fields[0], first, last}, err
}

// within says whether a folder is that of p, or of a part that p was merged into.
func (p part) within(folder string) bool {
	of, err := parsePart(folder)
	return err == nil && of.partition == p.partition && of.first <= p.first && p.last <= of.last
}

// The log's lines are OPERATION<tab>PART<tab>HASH, a new part's operation being 1.
const added = "1"

// lastNoted returns the parts of the youngest tokens in a table's log: as many as
// there may be inserts at a time.
func lastNoted(dir string) ([]part, error) {
	const inserts = 32
	files, err := filepath.Glob(filepath.Join(dir, "deduplication_log_*.txt"))
	if err != nil || len(files) == 0 {
		return nil, err
	}
	file, err := os.Open(slices.MaxFunc(files, byNumber))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // and it was read only
	var noted []part
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 3 {
			continue // a line that is being written
		}
		p, err := parsePart(fields[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
		if fields[0] != added {
			noted = slices.DeleteFunc(noted, func(n part) bool { return n == p })
		} else {
			noted = append(noted, p)
		}
	}
	return noted[max(0, len(noted)-inserts):], lines.Err()
}

// byNumber orders the files of a log as they were written.
func byNumber(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
