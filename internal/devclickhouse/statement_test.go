package devclickhouse

import "testing"

func TestParseInsert(t *testing.T) {
	for _, c := range []struct {
		text string
		want insert
	}{
		{"INSERT INTO t VALUES", insert{target: "t", before: "INSERT INTO t ", format: "Values"}},
		{"insert into `a b`.\"c\" (x, `y,(`) format  Native\n", insert{
			target: "`a b`.\"c\"", columns: "(x, `y,(`)", before: "insert into `a b`.\"c\" (x, `y,(`)", format: "Native"}},
		{"/* INSERT */ -- more\nINSERT INTO TABLE t(a) SETTINGS x = 'VALUES' FORMAT CSV", insert{
			target: "t", columns: "(a)", before: "/* INSERT */ -- more\nINSERT INTO TABLE t(a)", after: " SETTINGS x = 'VALUES'", format: "CSV"}},
		{"INSERT INTO t FORMAT CSV\r\n1,2\n\n3", insert{target: "t", before: "INSERT INTO t ", format: "CSV", data: "1,2\n\n3"}},
		{"INSERT INTO t FORMAT JSONEachRow {\"a\": 1}", insert{target: "t", before: "INSERT INTO t ", format: "JSONEachRow", data: `{"a": 1}`}},
		{"INSERT INTO t VALUES (1)", insert{target: "t", before: "INSERT INTO t ", format: "Values", data: "(1)", whole: true}},
		{"INSERT INTO t", insert{target: "t", before: "INSERT INTO t"}},
		{"INSERT INTO t (a);", insert{target: "t", columns: "(a)", before: "INSERT INTO t (a)"}},
		{"INSERT INTO FUNCTION null('a Int8') FORMAT TSV", insert{
			target: "FUNCTION null('a Int8')", before: "INSERT INTO FUNCTION null('a Int8') ", format: "TSV"}},
		{"INSERT INTO t SELECT 1", insert{target: "t", before: "INSERT INTO t ", whole: true}},
		{"INSERT INTO t (a) (SELECT 1)", insert{target: "t", columns: "(a)", before: "INSERT INTO t (a)", whole: true}},
		{"INSERT INTO t (SELECT 1)", insert{target: "t", before: "INSERT INTO t ", whole: true}},
		{"INSERT INTO t WITH 1 AS x SELECT x", insert{target: "t", before: "INSERT INTO t ", whole: true}},
		{"INSERT INTO t SELECT f(a) FROM input('a Int8') WHERE a > 0 FORMAT Native", insert{
			target: "t", input: "('a Int8')", before: "INSERT INTO t SELECT f(a) FROM ", after: " WHERE a > 0", format: "Native"}},
		{"INSERT INTO t SELECT * FROM (SELECT a FROM input('a Int8')) AS x", insert{
			target: "t", input: "('a Int8')", before: "INSERT INTO t SELECT * FROM (SELECT a FROM ", after: ") AS x"}},
	} {
		got, ok := parseInsert(c.text)
		if !ok || got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.text, got, c.want)
		}
	}
	for _, text := range []string{"SELECT 1", "", "-- INSERT INTO t VALUES", "'INSERT' INTO t"} {
		if _, ok := parseInsert(text); ok {
			t.Errorf("%q is taken for an INSERT", text)
		}
	}
}

func TestInsertFromFile(t *testing.T) {
	for text, want := range map[string]string{
		"INSERT INTO t (a) SETTINGS x = 1 VALUES":                        "INSERT INTO t (a) FROM INFILE 'f' COMPRESSION 'none'  SETTINGS x = 1 FORMAT Native",
		"INSERT INTO t SELECT a FROM input('a Int8') AS i FORMAT Native": "INSERT INTO t SELECT a FROM file('f', 'Native', 'a Int8', 'none') AS i",
	} {
		in, _ := parseInsert(text)
		if got := in.from("f", "Native"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestSplitFormat(t *testing.T) {
	for text, want := range map[string][2]string{
		"SELECT 1 FORMAT JSON":                           {"SELECT 1 ", "JSON"},
		"SELECT 1 format TSV ;":                          {"SELECT 1  ;", "TSV"},
		"SELECT 1 FORMAT CSV SETTINGS a = 1":             {"SELECT 1  SETTINGS a = 1", "CSV"},
		"SELECT 'x FORMAT JSON'":                         {"SELECT 'x FORMAT JSON'", ""},
		"SELECT format('{}', 1) AS format FROM t":        {"SELECT format('{}', 1) AS format FROM t", ""},
		"SELECT * FROM (SELECT 1 FORMAT JSON) -- FORMAT": {"SELECT * FROM (SELECT 1 FORMAT JSON) -- FORMAT", ""},
	} {
		if statement, format := splitFormat(text); statement != want[0] || format != want[1] {
			t.Errorf("%s: got %q and %q, want %q", text, statement, format, want)
		}
	}
}

func TestVerb(t *testing.T) {
	for text, want := range map[string]string{
		" select 1": "SELECT", "(SELECT 1)": "(", "-- x\n/* y */ With 1 AS a SELECT a": "WITH", "": "", "#! x\nSHOW": "SHOW",
	} {
		if got := verb(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// Whatever the text, taking it apart ends.
func FuzzParseInsert(f *testing.F) {
	for _, text := range []string{
		"INSERT INTO t SELECT * FROM (SELECT a FROM input('a Int8')) FORMAT X", "INSERT INTO `a\\` VALUES ((", "insert into function", "'", "/*",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if in, ok := parseInsert(text); ok {
			in.from("f", "Native")
		}
		splitFormat(text)
	})
}

func TestWithoutSync(t *testing.T) {
	for text, want := range map[string]string{
		"DROP TABLE a SYNC":                          "DROP TABLE a ",
		"drop table if exists d.`a b` sync;":         "drop table if exists d.`a b` ;",
		"DROP DATABASE a NO DELAY":                   "DROP DATABASE a ",
		"DETACH TABLE a PERMANENTLY SYNC":            "DETACH TABLE a PERMANENTLY ",
		"DROP TABLE sync":                            "DROP TABLE sync",
		"DROP TABLE IF EXISTS sync, d.sync, no SYNC": "DROP TABLE IF EXISTS sync, d.sync, no ",
		"SELECT 1 AS SYNC":                           "SELECT 1 AS SYNC",
	} {
		if got := withoutSync(text); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}
