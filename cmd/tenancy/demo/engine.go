package demo

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/cmd/tenancy/demo/notes"
)

// engine is what the demo can keep its data on.
type engine struct {
	name         string
	schemes      []string // of --database-url
	url          string   // an example of one
	strategies   []string // the first is the default
	placeholders notes.Placeholders
	open         func(ctx context.Context, opts Options, strategy string) (*backend, error)
}

var (
	// sqlite has no row_level here: it cannot keep plain SQL from reading others' rows.
	sqlite = engine{
		name:         "SQLite",
		strategies:   []string{tenancy.StrategyDatabase},
		placeholders: notes.QuestionMarks,
		open:         openSQLite,
	}
	postgreSQL = engine{
		name:         "PostgreSQL",
		schemes:      []string{"postgres", "postgresql"},
		url:          "postgres://user:password@host:port/database",
		strategies:   []string{tenancy.StrategyRowLevel, tenancy.StrategySchema, tenancy.StrategyDatabase},
		placeholders: notes.Dollars,
		open:         openPostgreSQL,
	}
	mariaDB = engine{
		name:         "MariaDB",
		schemes:      []string{"mysql", "mariadb"},
		url:          "mysql://user:password@host:port/database",
		strategies:   []string{tenancy.StrategyDatabase, tenancy.StrategySchema, tenancy.StrategyRowLevel},
		placeholders: notes.QuestionMarks,
		open:         openMariaDB,
	}
	// servers are the engines that --database-url can name.
	servers = []*engine{&postgreSQL, &mariaDB}
)

// engine returns where the data is to be kept. The error does not repeat the URL: it may hold a
// password.
func (o Options) engine() (*engine, error) {
	if o.DatabaseURL == "" {
		return &sqlite, nil
	}
	for _, e := range servers {
		if e.speaks(o.DatabaseURL) {
			return e, nil
		}
	}
	return nil, errors.New("--database-url is no URL of PostgreSQL or MariaDB: write " + postgreSQL.url + " or " + mariaDB.url)
}

func (e *engine) speaks(s string) bool {
	u, err := url.Parse(s)
	return err == nil && slices.Contains(e.schemes, u.Scheme)
}

// serversWith names the servers that have a strategy, for people.
func serversWith(strategy string) string {
	var names []string
	for _, e := range servers {
		if slices.Contains(e.strategies, strategy) {
			names = append(names, e.name+" (--database-url "+e.schemes[0]+"://…)")
		}
	}
	return strings.Join(names, " or ")
}
