package dialect

import (
	"crypto/sha1" //nolint:gosec // it is what the server's plugin stores
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// MariaDBIdent quotes a name for MariaDB.
func MariaDBIdent(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// maxMariaDBLogin is the length of a login's name on MySQL; MariaDB allows more.
const maxMariaDBLogin = 32

// MariaDBLogin returns the login of a tenant's database. The hash keeps cut names apart.
func MariaDBLogin(database string) string {
	if len(database) <= maxMariaDBLogin {
		return database
	}
	sum := sha256.Sum256([]byte(database))
	return database[:maxMariaDBLogin-17] + "_" + hex.EncodeToString(sum[:8])
}

// MariaDBMark asks for the mark of a database, by name. It answers no row when there is no such
// database.
const MariaDBMark = "SELECT schema_comment FROM information_schema.schemata WHERE schema_name = ?"

// MariaDBSession asks whose session it is: the account, the database, and whether each statement
// commits.
const MariaDBSession = "SELECT current_user(), coalesce(database(), ''), @@autocommit"

// MariaDBInTransaction asks whether a transaction is open.
const MariaDBInTransaction = "SELECT @@in_transaction"

// MariaDBMarked asks for the names of databases that the login can see and whose mark begins so.
const MariaDBMarked = "SELECT coalesce(group_concat(schema_name SEPARATOR ', '), '') FROM information_schema.schemata " +
	"WHERE left(schema_comment, char_length(?)) = ?"

// MariaDBRights asks what the login may do on every database; USAGE is nothing.
const MariaDBRights = "SELECT coalesce(group_concat(DISTINCT privilege_type SEPARATOR ', '), '') " +
	"FROM information_schema.user_privileges WHERE privilege_type <> 'USAGE'"

// CreateMariaDBDatabase makes a tenant's database, marked from its first moment.
func CreateMariaDBDatabase(name, mark string) string {
	// The comment takes no other form of literal; its text is an id's alphabet and a few words.
	return fmt.Sprintf("CREATE DATABASE IF NOT EXISTS %s CHARACTER SET utf8mb4 COMMENT '%s'", MariaDBIdent(name), mark)
}

// OpenMariaDBDatabase makes the login of a tenant's database and gives it the rows and nothing
// else. It cannot make, change or empty tables: that would also end transactions. It may be
// repeated, and sets the password anew.
func OpenMariaDBDatabase(name, login, password string) []string {
	return append(createMariaDBLogin(login, password),
		"GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE, CREATE TEMPORARY TABLES ON "+mariaDBGrantee(name)+".* TO "+mariaDBAccount(login))
}

// createMariaDBLogin makes a login without rights, or sets its password anew.
func createMariaDBLogin(login, password string) []string {
	account := mariaDBAccount(login)
	identified := " IDENTIFIED VIA mysql_native_password USING '" + mariaDBVerifier(password) + "'"
	return []string{
		"CREATE USER IF NOT EXISTS " + account + identified,
		"ALTER USER " + account + identified,
	}
}

// mariaDBGrantee quotes the name of a database for a grant, where _ and % stand for other characters
// too.
func mariaDBGrantee(database string) string {
	return MariaDBIdent(strings.NewReplacer(`_`, `\_`, `%`, `\%`).Replace(database))
}

// DropMariaDBDatabase drops a tenant's database and its login, if they exist.
func DropMariaDBDatabase(name, login string) []string {
	return []string{
		"DROP USER IF EXISTS " + mariaDBAccount(login), // first: with the database its owner is forgotten
		"DROP DATABASE IF EXISTS " + MariaDBIdent(name),
	}
}

func mariaDBAccount(login string) string { return MariaDBIdent(login) + "@'%'" }

// mariaDBVerifier returns what the server stores of a password, so that the password itself appears
// in no statement and no log.
func mariaDBVerifier(password string) string {
	once := sha1.Sum([]byte(password)) //nolint:gosec // see above; the password has 256 random bits
	twice := sha1.Sum(once[:])         //nolint:gosec // see above
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}
