package isolation

import "testing"

func TestClassify(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]statementKind{
		"SELECT 1": kindData, "  -- c\n/* d */ (sElEcT 1)": kindData, "insert into t values (1)": kindData,
		"SELECT SET_CONFIG('a','b',false)": kindSession, "select pg_advisory_lock(1)": kindSession,
		"SELECT 1 INTO TEMP x": kindSession, "select * into temporary table x from y": kindSession,
		"SELECT 1 INTO pg_temp.x": kindSession, "SELECT 1 INTO TEMP\tx": kindSession, `SELECT 1 INTO "pg_temp".x`: kindSession,
		"SELECT * FROM templates, temp_x, tempo, temporarily": kindData,
		"SET a = 1": kindSession, "CREATE TABLE x (y int)": kindSession, "CALL p()": kindSession, "": kindSession, "é": kindSession,
		"SET LOCAL a = 1": kindLocal, "set transaction read only": kindLocal, "SAVEPOINT a": kindLocal,
		"ROLLBACK TO SAVEPOINT a": kindLocal, "rollback work to a": kindLocal, "SHOW a": kindLocal,
		"BEGIN": kindTransaction, "COMMIT AND CHAIN": kindTransaction, "ROLLBACK": kindTransaction,
		"rollback transaction": kindTransaction, "PREPARE TRANSACTION 'x'": kindTransaction, "/* a /* b */ c */ end": kindTransaction,
		"PREPARE x AS SELECT 1": kindSession, "/* unended": kindSession,
	} {
		if got := classify(text); got != want {
			t.Errorf("classify(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestSeveral(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"": false, "SELECT 1": false, "SELECT 1;": false, "SELECT 1 ; -- end\n /* x */": false,
		"SELECT 1; SELECT 2": true, "SELECT 1;/* x */COMMIT": true, "SELECT 1 -- ;\n; COMMIT": true,
		"SELECT ';'": false, `SELECT ";", 'it''s;'`: false, "SELECT 'a'; COMMIT": true,
		"SELECT $$;$$": false, "SELECT $a$ ; $b$ ; $a$": false, "SELECT $a$x$a$; COMMIT": true, "SELECT $1; COMMIT": true,
		`SELECT E'\'; COMMIT; --'`: true, `SELECT '\' ; COMMIT --'`: true, "SELECT 'open; x": true, "SELECT $a$ open; x": true,
		"SELECT a$b$c;": true, "/* ; */ SELECT 1": false, "SELECT 1 /* ; /* ; */ ; */": false,
	} {
		if got := several(text); got != want {
			t.Errorf("several(%q) = %v, want %v", text, got, want)
		}
	}
}

func FuzzStatement(f *testing.F) {
	for _, s := range []string{"SELECT 1; COMMIT", "/* /* */ */ BEGIN", "$a$;$a$", `E'\';'`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		several(s)
		if classify("COMMIT;"+s) != kindTransaction || classify("--"+"\n"+"begin "+s) != kindTransaction {
			t.Errorf("what follows hides a COMMIT or BEGIN: %q", s)
		}
	})
}
