package kafka

import (
	"encoding/json"
	"testing"

	"github.com/millrace/millrace/internal/kafkagroup"
)

// FuzzPointer: metadata may be anything that any program has committed.
func FuzzPointer(f *testing.F) {
	for _, s := range []string{
		"", "x", "{}", "null", "[]", `{"millrace":1}`, `{"millrace":1,"job":"visits","number":7,"checkpoint":"7@r"}`,
		`{"millrace":1,"job":"other","number":7,"checkpoint":"7@r"}`, `{"millrace":2}`, `{"millrace":1e99}`, `{"millrace":-1,"number":"x"}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, metadata string) {
		o := &offsets{job: "visits"}
		number, name, err := o.pointerOf(&metadata)
		var p kafkagroup.Pointer
		ours := json.Unmarshal([]byte(metadata), &p) == nil && p.Version != 0
		switch {
		case !ours && (number != -1 || name != "" || err != nil):
			t.Errorf("foreign metadata %q: %d, %q, %v", metadata, number, name, err)
		case ours && (p.Version != kafkagroup.PointerVersion || p.Job != "visits") != (err != nil):
			t.Errorf("metadata %q: %d, %q, %v", metadata, number, name, err)
		case ours && err == nil && (name != p.Checkpoint || number != p.Number):
			t.Errorf("metadata %q: %d, %q", metadata, number, name)
		}
	})
}
