package isolation

import "context"

// Engine is a kind of database.
type Engine string

// The engines that the shipped strategies know.
const (
	EnginePostgreSQL Engine = "postgresql"
	EngineSQLite     Engine = "sqlite"
	EngineMariaDB    Engine = "mariadb"
)

// Server is a place that holds tenants' data: a [PostgreSQL] or [MariaDB] server, or a
// [SQLite] folder. What else it must be able to do is between it and the strategies that use it.
type Server interface {
	// Engine is the kind of database that the server is.
	Engine() Engine
}

// home is a server of this package. Each of the shipped strategies asks for more: rowServer,
// schemaServer, databaseServer.
type home interface {
	Server
	// validate reports what is wrong with the server's configuration, all at once.
	validate() error
	// routeSystem and routeUnbound are those of Strategy.
	routeSystem(r *Route) error
	routeUnbound(r *Route) error
	// setup prepares the server for its first tenant; see Provisioner.Setup.
	setup(ctx context.Context, strategy, name string, m Migrator) (version int64, err error)
	// check reports whether the walls stand; see DB.Check. The strategies are those in use.
	check(ctx context.Context, strategies []string) error
}

var _ = []home{PostgreSQL{}, SQLite{}, MariaDB{}}

func routeSystem(s Server, r *Route) error {
	h, ok := s.(home)
	if !ok {
		return ErrNoSystemLogin
	}
	return h.routeSystem(r)
}

func routeUnbound(s Server, r *Route) error {
	h, ok := s.(home)
	if !ok {
		return ErrNoSystemLogin
	}
	return h.routeUnbound(r)
}

// Logins, as part of a pool's name.
const (
	loginApp     = "app"
	loginSystem  = "system"
	loginReplica = "replica"
)
