package demo

import (
	"context"
	"embed"
	"io/fs"

	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantgoose"
)

// schemas are the tables of the notes in each engine's words: own are those of a tenant with a
// schema, database or file of its own; shared is the one table of all others.
//
//go:embed schema
var schemas embed.FS

// tables brings the notes' tables to their version.
type tables struct{ own, shared isolation.Migrator }

func migrator() (isolation.Migrator, error) {
	own, err := folders("own", isolation.EngineSQLite, isolation.EnginePostgreSQL, isolation.EngineMariaDB)
	if err != nil {
		return nil, err
	}
	shared, err := folders("shared", isolation.EnginePostgreSQL, isolation.EngineMariaDB)
	return tables{own, shared}, err
}

func folders(whose string, engines ...isolation.Engine) (isolation.Migrator, error) {
	files := map[isolation.Engine]fs.FS{}
	for _, engine := range engines {
		var err error
		if files[engine], err = fs.Sub(schemas, "schema/"+whose+"/"+string(engine)); err != nil {
			return nil, err
		}
	}
	return tenantgoose.New(files)
}

func (t tables) of(target isolation.Target) isolation.Migrator {
	if target.Tenant == "" {
		return t.shared
	}
	return t.own
}

// Migrate implements [isolation.Migrator].
func (t tables) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	return t.of(target).Migrate(ctx, target)
}

// Version implements [isolation.Migrator].
func (t tables) Version(ctx context.Context, target isolation.Target) (int64, error) {
	return t.of(target).Version(ctx, target)
}
