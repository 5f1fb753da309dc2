package isolation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"lexigram.dev/tenancy"
)

// perDatabase gives each tenant a database of its own: on SQLite a file.
type perDatabase struct{}

func (perDatabase) Name() string { return tenancy.StrategyDatabase }

func (perDatabase) Supports(s Server) error {
	if _, ok := s.(SQLite); !ok {
		return unsupported(tenancy.StrategyDatabase, s.Engine(), "use row_level there, or SQLite for one file per tenant")
	}
	return nil
}

func (perDatabase) Route(s Server, t *tenancy.Tenant, p tenancy.Placement, r *Route) error {
	lite, ok := s.(SQLite)
	if !ok {
		return perDatabase{}.Supports(s)
	}
	if p.Database == "" {
		return fmt.Errorf("%w (it has no placement)", ErrMissing)
	}
	if err := checkFile(p.Database); err != nil {
		return err
	}
	r.Pool, r.Connector, r.Engine = Pool{Database: p.Database}, file{lite, p.Database}, EngineSQLite
	return nil
}

func (perDatabase) RouteSystem(s Server, r *Route) error {
	lite, ok := s.(SQLite)
	if !ok {
		return perDatabase{}.Supports(s)
	}
	if lite.System == nil {
		return fmt.Errorf("%w (each tenant has a file of its own: SQLite.System names a database for the system's tables)", ErrNoSystemLogin)
	}
	r.Pool, r.Connector, r.Engine = Pool{Login: loginSystem}, lite.System, EngineSQLite
	return nil
}

func (perDatabase) RouteUnbound(s Server, r *Route) error {
	lite, ok := s.(SQLite)
	if !ok {
		return perDatabase{}.Supports(s)
	}
	r.Pool, r.Connector, r.Engine = Pool{Database: memory}, file{lite, memory}, EngineSQLite
	return nil
}

// Place chooses the file's name. It tells people whose file it is and is safe on every file
// system; the hash keeps ids apart that look alike when cut or when letter case does not count.
func (perDatabase) Place(_ context.Context, s Server, t tenancy.Tenant) (tenancy.Placement, error) {
	if err := (perDatabase{}).Supports(s); err != nil {
		return tenancy.Placement{}, err
	}
	if err := tenancy.CheckID(t.ID); err != nil {
		return tenancy.Placement{}, err
	}
	const readable = 40
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, strings.ToLower(t.ID))
	if len(name) > readable {
		name = name[:readable]
	}
	sum := sha256.Sum256([]byte(t.ID))
	return tenancy.Placement{Database: name + "-" + hex.EncodeToString(sum[:8]) + extension}, nil
}

// Provision makes the folder and the file and migrates it.
func (perDatabase) Provision(ctx context.Context, s Server, t tenancy.Tenant, m Migrator) (int64, error) {
	lite, ok := s.(SQLite)
	if !ok {
		return 0, perDatabase{}.Supports(s)
	}
	if err := checkFile(t.Placement.Database); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(lite.Dir, 0o700); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(lite.path(t.Placement.Database), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	db := lite.open(t.Placement.Database)
	defer db.Close()
	if err := db.PingContext(ctx); err != nil {
		return 0, err
	}
	if m == nil {
		return 0, nil
	}
	return m.Migrate(ctx, Target{DB: db, Engine: EngineSQLite, Tenant: t.ID, Name: t.Placement.Database})
}

// Deprovision removes the file, and then what SQLite keeps beside it.
func (perDatabase) Deprovision(_ context.Context, s Server, t tenancy.Tenant) error {
	lite, ok := s.(SQLite)
	if !ok {
		return perDatabase{}.Supports(s)
	}
	if err := checkFile(t.Placement.Database); err != nil {
		return err
	}
	path := lite.path(t.Placement.Database)
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

// checkFile keeps a placement, wherever it comes from, inside the folder.
func checkFile(name string) error {
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
