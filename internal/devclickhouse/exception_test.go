package devclickhouse

import "testing"

func TestParseException(t *testing.T) {
	for text, want := range map[string]exception{
		"Code: 60. DB::Exception: Unknown table (x). (UNKNOWN_TABLE)":         {60, "Unknown table (x).", "UNKNOWN_TABLE"},
		"Code: 76. DB::ErrnoException: Cannot open\nfile. (CANNOT_OPEN_FILE)": {76, "Cannot open\nfile.", "CANNOT_OPEN_FILE"},
		"Code: 27. DB::Exception: Code: 27. DB::Exception: Cannot parse: (in file/uri /proc/self/fd/12): While executing File: data for INSERT was parsed from file. (CANNOT_PARSE) (version 26.5.1.1). (CANNOT_PARSE)": {
			27, "Cannot parse.", "CANNOT_PARSE"},
		"something else": {1002, "something else", "UNKNOWN_EXCEPTION"},
	} {
		if got := parseException(text); *got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", text, *got, want)
		}
	}
}
