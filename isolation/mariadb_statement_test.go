package isolation

import (
	"strings"
	"testing"
)

func TestClassifyMariaDB(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]statementKind{
		"SELECT 1":                                      kindData,
		" (select 1)":                                   kindData,
		"-- why\nSELECT 1":                              kindData,
		"# why\nSELECT 1":                               kindData,
		"/* a /* b */ SELECT 1":                         kindData,
		"REPLACE INTO t VALUES (1)":                     kindData,
		"INSERT INTO t VALUES ('a@b.c')":                kindData,
		"SELECT @@sql_mode":                             kindData,
		"SELECT `a@b` FROM t":                           kindData,
		"SELECT 1 -- @x":                                kindData,
		"with a as (select 1) select * from a":          kindData,
		"SELECT @x := 1":                                kindSession,
		"select@x:=1":                                   kindSession,
		"SELECT 1 INTO @x":                              kindSession,
		`SELECT '\'', @x := 1`:                          kindSession,
		`SELECT 'a\', @x := 1 -- '`:                     kindSession,
		"SELECT GET_LOCK('a', 1)":                       kindSession,
		"SET NAMES latin1":                              kindSession,
		"USE other":                                     kindSession,
		"CALL p()":                                      kindSession,
		"DO RELEASE_LOCK('a')":                          kindSession,
		"CREATE TEMPORARY TABLE t (i int)":              kindSession,
		"create /* x */ temporary table t (i int)":      kindSession,
		"LOAD DATA LOCAL INFILE 'f' INTO TABLE t":       kindSession,
		"PREPARE s FROM 'COMMIT'":                       kindSession,
		"SAVEPOINT a":                                   kindLocal,
		"ROLLBACK TO a":                                 kindLocal,
		"ROLLBACK WORK TO SAVEPOINT a":                  kindLocal,
		"EXPLAIN SELECT 1":                              kindLocal,
		"BEGIN":                                         kindTransaction,
		"BEGIN NOT ATOMIC COMMIT; END":                  kindTransaction,
		"START TRANSACTION READ ONLY":                   kindTransaction,
		"COMMIT AND CHAIN":                              kindTransaction,
		"ROLLBACK":                                      kindTransaction,
		"rollback work":                                 kindTransaction,
		"XA START 'a'":                                  kindTransaction,
		"/* a /* b */ COMMIT":                           kindTransaction,
		"# why\nCOMMIT":                                 kindTransaction,
		"--\nCOMMIT":                                    kindTransaction,
		"/*! COMMIT */":                                 kindTransaction,
		"/*M!100000 COMMIT */":                          kindTransaction,
		"SET autocommit = 0":                            kindTransaction,
		"SET @x = 1, @@session.AutoCommit = 1":          kindTransaction,
		"SET STATEMENT max_statement_time=1 FOR COMMIT": kindEnds,
		"CREATE TABLE t (i int)":                        kindEnds,
		"TRUNCATE t":                                    kindEnds,
		"ANALYZE TABLE t":                               kindEnds,
		"LOCK TABLES t READ":                            kindEnds,
		"LOAD INDEX INTO CACHE t":                       kindEnds,
		"SET PASSWORD = PASSWORD('x')":                  kindEnds,
		"EXECUTE IMMEDIATE 'COMMIT'":                    kindEnds,
		"IF 1 THEN COMMIT; END IF":                      kindEnds,
		"":                                              kindEnds,
	} {
		if got := kindOf(EngineMariaDB, text); got != want {
			t.Errorf("%q is of kind %d, want %d", text, got, want)
		}
	}
}

func TestSeveralMariaDB(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"SELECT 1":                       false,
		"SELECT 1;":                      false,
		"SELECT 1; -- done":              false,
		"; SELECT 1":                     false,
		"SELECT 1; # done":               false,
		"SELECT 1; /* done */ ;":         false,
		"SELECT 'a;b', \"c;d\", `e;f`":   false,
		"SELECT 'it''s; fine'":           false,
		"SELECT 1 # ; SELECT 2":          false,
		"SELECT 1 /* ; COMMIT */":        false,
		"SELECT 1; COMMIT":               true,
		"SELECT 1;COMMIT":                true,
		"SELECT 'a'; COMMIT":             true,
		`SELECT 'a\'; COMMIT -- '`:       true, // where a backslash is a letter
		`SELECT 'a\''; COMMIT; SELECT '`: true, // where it escapes
		"SELECT 1 --; COMMIT":            true, // two minus signs
		"SELECT 1; /*! COMMIT */":        true,
		"SELECT 1 # it's\n; COMMIT":      true,
		"SELECT 1 -- it's\n; COMMIT":     true,
		"SELECT 1 /* it's */; COMMIT":    true,
		"SELECT `a\\`; COMMIT":           true,
		"SELECT 1 /* /* */ ; COMMIT":     true,
	} {
		if got := severalMariaDB(text); got != want {
			t.Errorf("%q: several is %t, want %t", text, got, want)
		}
	}
}

func FuzzMariaDBStatement(f *testing.F) {
	for _, s := range []string{"SELECT 1", "", "'", "/*", "--", "#", "@@", `'\`, "`"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if kind := classifyMariaDB("COMMIT;" + s); kind != kindTransaction {
			t.Errorf("COMMIT followed by %q is of kind %d", s, kind)
		}
		if kind := classifyMariaDB("-- \n# \n/* " + "*/" + "begin " + s); kind != kindTransaction {
			t.Errorf("BEGIN followed by %q is of kind %d", s, kind)
		}
		touchesMariaDBSession(s)
		if severalMariaDB(strings.ReplaceAll(s, ";", "")) {
			t.Errorf("%q without semicolons is several statements", s)
		}
		if !severalMariaDB("SELECT 1; SELECT " + s) {
			t.Errorf("two statements, the second with %q, are one", s)
		}
	})
}
