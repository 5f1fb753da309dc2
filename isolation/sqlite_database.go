package isolation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// The methods of this file are the strategy database on SQLite: one file per tenant.

var _ databaseServer = SQLite{}

func (SQLite) supportsDatabases() error { return nil }

func (s SQLite) routeDatabase(p tenancy.Placement, r *Route) error {
	r.Pool, r.Connector, r.Engine = Pool{Database: p.Database}, file{s, p.Database}, EngineSQLite
	return nil
}

// placeDatabase chooses the file's name. It is safe on every file system; the hash keeps ids apart
// that look alike when cut or when letter case does not count.
func (SQLite) placeDatabase(t tenancy.Tenant) (string, error) {
	sum := sha256.Sum256([]byte(t.ID))
	return readable(t.ID, '-') + "-" + hex.EncodeToString(sum[:8]) + extension, nil
}

func (s SQLite) checkOwnDatabase(t tenancy.Tenant) error {
	if own, _ := s.placeDatabase(t); t.Placement.Database != own {
		return notPlaced("database", t.Placement.Database)
	}
	return nil
}

// provisionDatabase makes the folder and the file.
func (s SQLite) provisionDatabase(ctx context.Context, t tenancy.Tenant) error {
	if err := s.create(t.Placement.Database); err != nil {
		return err
	}
	db := s.open(t.Placement.Database)
	defer db.Close()
	return db.PingContext(ctx)
}

func (s SQLite) manifestDatabase(ctx context.Context, t tenancy.Tenant) ([]tenancy.ManifestItem, error) {
	name := t.Placement.Database
	if _, err := os.Stat(s.path(name)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	db := s.open(name)
	defer db.Close()
	items, err := manifestTables(ctx, db, dialect.SQLiteTables)
	return append(items, tenancy.ManifestItem{Kind: itemFile, Name: name}), err
}

func (s SQLite) migrateDatabase(ctx context.Context, t tenancy.Tenant, m Migrator) (int64, error) {
	db := s.open(t.Placement.Database)
	defer db.Close()
	return m.Migrate(ctx, Target{DB: db, Engine: EngineSQLite, Tenant: t.ID, Name: t.Placement.Database})
}

// deprovisionDatabase removes the file, and then what SQLite keeps beside it.
func (s SQLite) deprovisionDatabase(_ context.Context, t tenancy.Tenant) error {
	path := s.path(t.Placement.Database)
	var errs []error
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// extension ends the name of every tenant's file.
const extension = ".db"

// checkDatabase keeps a placement, wherever it comes from, inside the folder.
func (SQLite) checkDatabase(name string) error {
	stem, ok := strings.CutSuffix(name, extension)
	ok = ok && stem != "" && len(name) <= 128
	for i := range len(stem) {
		c := stem[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	}
	if !ok {
		return &tenancy.InvalidError{
			Field: "placement.database", Value: name,
			Remedy: "a tenant's file is named by the provisioner: a-z 0-9 - _ and " + extension,
		}
	}
	return nil
}
