package demo

import (
	"context"
	"embed"
	"io/fs"

	"github.com/pressly/goose/v3"

	"lexigram.dev/tenancy/isolation"
)

//go:embed schema
var schemas embed.FS

type gooseMigrator struct{ files fs.FS }

func migrator(engine isolation.Engine) (isolation.Migrator, error) {
	files, err := fs.Sub(schemas, "schema/"+string(engine))
	return gooseMigrator{files}, err
}

func (m gooseMigrator) provider(t isolation.Target) (*goose.Provider, error) {
	d := goose.DialectSQLite3
	if t.Engine == isolation.EnginePostgreSQL {
		d = goose.DialectPostgres
	}
	return goose.NewProvider(d, t.DB, m.files)
}

func (m gooseMigrator) Migrate(ctx context.Context, t isolation.Target) (int64, error) {
	p, err := m.provider(t)
	if err != nil {
		return 0, err
	}
	if _, err := p.Up(ctx); err != nil {
		return 0, err
	}
	return p.GetDBVersion(ctx)
}

func (m gooseMigrator) Version(ctx context.Context, t isolation.Target) (int64, error) {
	p, err := m.provider(t)
	if err != nil {
		return 0, err
	}
	return p.GetDBVersion(ctx)
}
