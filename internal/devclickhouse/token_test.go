package devclickhouse

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTokenWithoutPart(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string // of the log, by number
		parts []string
		want  bool
	}{
		{name: "no log"},
		{name: "nothing noted", files: map[string]string{"1": ""}},
		{name: "all there", files: map[string]string{"1": "1\tall_1_1_0\ta\n1\tall_2_2_0\tb\n"}, parts: []string{"all_1_1_0", "all_2_2_0"}},
		{name: "merged", files: map[string]string{"1": "1\tall_1_1_0\ta\n1\tall_2_2_0\tb\n"}, parts: []string{"all_1_2_1"}},
		{name: "mutated", files: map[string]string{"1": "1\tall_1_1_0\ta\n"}, parts: []string{"all_1_1_0_3"}},
		{name: "still temporary", files: map[string]string{"1": "1\tall_1_1_0\ta\n"}, parts: []string{"tmp_insert_all_1_1_0"}, want: true},
		{name: "another partition's", files: map[string]string{"1": "1\t202601_1_1_0\ta\n"}, parts: []string{"202602_1_1_0"}, want: true},
		{name: "dropped", files: map[string]string{"1": "1\tall_1_1_0\ta\n2\tall_1_1_0\ta\n"}},
		{name: "being written", files: map[string]string{"1": "1\tall_1_1_0\ta\n1\tall_2_"}, parts: []string{"all_1_1_0"}},
		{name: "in the youngest file", files: map[string]string{"9": "1\tall_1_1_0\ta\n", "10": "1\tall_2_2_0\tb\n"}, parts: []string{"all_1_1_0"}, want: true},
		{name: "in an older file", files: map[string]string{"9": "1\tall_1_1_0\ta\n", "10": "1\tall_2_2_0\tb\n"}, parts: []string{"all_2_2_0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			table := filepath.Join(dir, "store", "abc", "abcdef")
			for _, name := range append(c.parts, "deduplication_logs", "detached") {
				if err := os.MkdirAll(filepath.Join(table, name), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for number, content := range c.files {
				if err := os.WriteFile(filepath.Join(table, "deduplication_logs", "deduplication_log_"+number+".txt"), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := tokenWithoutPart(dir)
			if got != c.want || err != nil {
				t.Errorf("got %t, %v, want %t", got, err, c.want)
			}
		})
	}
}
