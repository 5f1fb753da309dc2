package isolation

import (
	"crypto/rand"
	"encoding/hex"
	"strings"

	"lexigram.dev/tenancy"
)

// placeName chooses the name of a tenant's schema, database or login. It tells people whose it is
// and reads the same quoted and not quoted. The random end keeps it apart from all others on the
// server, also from those of another deployment and from an earlier place of the same tenant.
func placeName(t tenancy.Tenant) (string, error) {
	if err := tenancy.CheckID(t.ID); err != nil {
		return "", err
	}
	var nonce [6]byte
	_, _ = rand.Read(nonce[:]) // it never fails
	return "t_" + readable(t.ID, '_') + "_" + hex.EncodeToString(nonce[:]), nil
}

// readable keeps of an id what is safe in a name, and not too much of it.
func readable(id string, filler rune) string {
	const enough = 40
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == filler {
			return r
		}
		return '_'
	}, strings.ToLower(id))
	return name[:min(len(name), enough)]
}
