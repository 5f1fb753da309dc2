package demo

import (
	"embed"
	"io/fs"

	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantgoose"
)

// schemas are the tables of the notes, in each engine's words: only PostgreSQL keeps several
// tenants in one of them.
//
//go:embed schema
var schemas embed.FS

func migrator() (isolation.Migrator, error) {
	files := map[isolation.Engine]fs.FS{}
	for _, engine := range []isolation.Engine{isolation.EngineSQLite, isolation.EnginePostgreSQL} {
		var err error
		if files[engine], err = fs.Sub(schemas, "schema/"+string(engine)); err != nil {
			return nil, err
		}
	}
	return tenantgoose.New(files)
}
