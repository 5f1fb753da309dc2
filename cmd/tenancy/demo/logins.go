package demo

import (
	"crypto/sha256"
	"encoding/hex"
)

const (
	// maxLoginName is PostgreSQL's bound; MariaDB allows more.
	maxLoginName = 63
	// keyName is under what the key of the tenants' own logins is kept; it is no login.
	keyName = "(key)"
)

// loginPrefix begins the names of the demo's logins. Logins belong to the whole server, so that
// it contains the database's name, or a hash of it.
func loginPrefix(database string) string {
	const prefix = "tenancy_demo_"
	if len(prefix+database+"_catalogue") <= maxLoginName {
		return prefix + database
	}
	sum := sha256.Sum256([]byte(database))
	return prefix + hex.EncodeToString(sum[:8])
}

// passwords are those of the demo's logins, by name. They are random and kept in the database,
// where only its owner reads them, so that the next process finds them.
type passwords map[string]string

// key is what the passwords of the tenants' own logins are derived from.
func (p passwords) key() []byte {
	sum := sha256.Sum256([]byte(p[keyName]))
	return sum[:]
}
