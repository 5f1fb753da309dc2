package pgx_test

import "testing"

// BenchmarkStatement compares one scoped statement with pgx stdlib's over the same path.
func BenchmarkStatement(b *testing.B) {
	const query = "SELECT id, body FROM notes WHERE id = $1"
	for _, path := range paths {
		w := open(b, path)
		_, err := w.admin.Exec(`INSERT INTO notes (tenant_id, body) SELECT t, 'note' FROM unnest(ARRAY['acme', 'other']) t, generate_series(1, 5000);
			CREATE TABLE bare AS SELECT id, body FROM notes; CREATE UNIQUE INDEX ON bare (id); GRANT SELECT ON bare TO public;
			ANALYZE`)
		must(b, err)
		b.Run(string(path)+"/stdlib", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var id int64
				var body string
				must(b, w.plain.QueryRowContext(b.Context(), "SELECT id, body FROM bare WHERE id = $1", 50).Scan(&id, &body))
			}
		})
		b.Run(string(path)+"/scoped", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var id int64
				var body string
				must(b, w.db.QueryRowContext(w.acme, query, 50).Scan(&id, &body))
			}
		})
	}
}
