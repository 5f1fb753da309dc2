package isolation

// Engine is a kind of database.
type Engine string

// The engines that the shipped strategies know.
const (
	EnginePostgreSQL Engine = "postgresql"
	EngineSQLite     Engine = "sqlite"
)

// Server is a place that holds tenants' data: a [PostgreSQL] server or a [SQLite] folder. What
// else it must be able to do is between it and the strategies that use it.
type Server interface {
	// Engine is the kind of database that the server is.
	Engine() Engine
}
