package isolationtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"lexigram.dev/tenancy/isolation"
)

// CreateTable returns the DDL of the table that the suites work on. The column of the tenant is
// for a shared table, which the application's own means must wall; "" for none. Whatever the
// handle does not do itself must fill it in: the suites do not mention it.
func CreateTable(engine isolation.Engine, table, tenantColumn string) string {
	column, key := "", "id"
	if tenantColumn != "" {
		column, key = tenantColumn+" varchar(128) NOT NULL, ", tenantColumn+", id"
	}
	options, text, number := "", "", ""
	if !standard(engine) {
		options = " ENGINE = InnoDB CHARACTER SET ascii COLLATE ascii_bin"
		text, number = " DEFAULT ''", " DEFAULT 0" // which columns behind MariaDB's views need
	}
	return fmt.Sprintf("CREATE TABLE %s (%sid varchar(64) NOT NULL%[3]s, owner varchar(128) NOT NULL%[3]s, "+
		"n bigint NOT NULL%[4]s CHECK (n >= 0), body varchar(64) NOT NULL%[3]s, PRIMARY KEY (%[5]s))%[6]s",
		table, column, text, number, key, options)
}

// The related tables, by what follows the name of the table.
const parent, child = "_parent", "_child"

// CreateRelated returns the DDL of two more tables with the columns of [CreateTable]: the body of a
// row in one is the id of a row of the same tenant in the other, with which it is deleted.
func CreateRelated(engine isolation.Engine, table, tenantColumn string) []string {
	column := ""
	if tenantColumn != "" {
		column = tenantColumn + ", "
	}
	ddl := CreateTable(engine, table+child, tenantColumn)
	end := strings.LastIndex(ddl, ")")
	if !standard(engine) {
		end = strings.LastIndex(ddl, ") ENGINE")
	}
	return []string{
		CreateTable(engine, table+parent, tenantColumn),
		ddl[:end] + ", FOREIGN KEY (" + column + "body) REFERENCES " + table + parent + " (" + column + "id) ON DELETE CASCADE" + ddl[end:],
	}
}

// standard reports whether an engine has ON CONFLICT and its like.
func standard(engine isolation.Engine) bool {
	return engine == isolation.EnginePostgreSQL || engine == isolation.EngineSQLite
}

// row is a row of the table. The owner is whom the suite wrote it for, whatever the handle made
// of it, and the body cannot be guessed.
type row struct {
	id, owner, body string
	n               int64
}

func newRow(tenant string) row { return row{id: rand.Text(), owner: tenant, body: rand.Text()} }

func (r row) String() string {
	return fmt.Sprintf("row %s of tenant %q (n = %d, body %s)", r.id, r.owner, r.n, r.body)
}

func (r row) values() []any { return []any{r.id, r.owner, r.n, r.body} }

// querier is a DB, *sql.Tx or *sql.Conn.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// texts are the statements of the suites in the language of an engine.
type texts struct {
	engine isolation.Engine
	table  string
	all    string // every row
	one    string // the row of an id
	insert string // one row
	update string // n of an id
	remove string // the row of an id
}

const columns = "id, owner, n, body"

func newTexts(h Handle) texts {
	s := texts{engine: h.Engine, table: h.Table}
	s.all = "SELECT " + columns + " FROM " + h.Table
	s.one = s.say(s.all + " WHERE id = ?")
	s.insert = s.insertRows(1)
	s.update = s.say("UPDATE " + h.Table + " SET n = ? WHERE id = ?")
	s.remove = s.say("DELETE FROM " + h.Table + " WHERE id = ?")
	return s
}

// say writes the parameters of a statement as the engine wants them. No text of the suites holds
// another question mark.
func (s texts) say(query string) string {
	if s.engine != isolation.EnginePostgreSQL {
		return query
	}
	var b strings.Builder
	n := 0
	for {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		n++
		fmt.Fprintf(&b, "$%d", n)
		query = after
	}
}

func (s texts) insertRows(n int) string {
	return s.say("INSERT INTO " + s.table + " (" + columns + ") VALUES (?, ?, ?, ?)" + strings.Repeat(", (?, ?, ?, ?)", n-1))
}

// slow is an insert of the row that takes about that many seconds. SQLite cannot sleep: it counts,
// steps a second.
func (s texts) slow(r row, seconds, steps float64) (query string, args []any) {
	args = r.values()
	switch s.engine {
	case isolation.EnginePostgreSQL:
		query = fmt.Sprintf(" SELECT $1::text, $2::text, $3::bigint, $4::text FROM pg_sleep(%g)", seconds)
	case isolation.EngineSQLite:
		query = " SELECT ?, ?, ?, ? FROM (" + counting(seconds*steps) + ") WHERE c > 0"
	default:
		query = fmt.Sprintf(" SELECT ?, ?, ?, ? FROM DUAL WHERE SLEEP(%g) = 0", seconds)
	}
	return "INSERT INTO " + s.table + " (" + columns + ")" + query, args
}

// counting is a query that makes SQLite count.
func counting(steps float64) string {
	return fmt.Sprintf("WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT %.0f) SELECT count(*) AS c FROM s", steps)
}

// readRows runs a query for whole rows.
func readRows(ctx context.Context, q querier, query string, args ...any) ([]row, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return scanRows(rows)
}

// scanRows reads rows to their end and closes them.
func scanRows(rows *sql.Rows) ([]row, error) {
	all := []row{}
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.id, &r.owner, &r.n, &r.body); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		all = append(all, r)
	}
	return all, errors.Join(rows.Err(), rows.Close())
}
