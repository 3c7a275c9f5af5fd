package main

import (
	"unicode/utf8"

	"github.com/millrace/millrace/pipeline"
)

// DeadLetter is a line of dead_letters.jsonl: a record that is not in the
// results, where it was and why.
type DeadLetter struct {
	Operator string `json:"operator"`
	Error    string `json:"error"`
	File     string `json:"file,omitempty"`
	Line     int64  `json:"line,omitempty"`
	// Raw is the line as it stands in the file. Where it is no UTF-8, which JSON
	// can't hold, RawBytes has it in base64 instead.
	Raw      string `json:"raw,omitempty"`
	RawBytes []byte `json:"raw_base64,omitempty"`
	// Record is what an operator behind the source rejected.
	Record string `json:"record,omitempty"`
}

func deadLetterOf(d pipeline.DeadLetter) DeadLetter {
	letter := DeadLetter{Operator: d.Operator, Error: d.Error, File: d.Split, Line: d.Offset, Record: d.Record}
	if utf8.Valid(d.Raw) {
		letter.Raw = string(d.Raw)
	} else {
		letter.RawBytes = d.Raw
	}
	return letter
}
