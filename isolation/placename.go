package isolation

import (
	"crypto/rand"
	"encoding/hex"
	"strings"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// placeName chooses the name of a tenant's schema, database or login. It tells people whose it is
// and reads the same quoted and not quoted. The random end keeps it apart from all others on the
// server, also from those of another deployment and from an earlier place of the same tenant.
func placeName(t tenancy.Tenant) (string, error) {
	if err := tenancy.CheckID(t.ID); err != nil {
		return "", err
	}
	var nonce [nonceBytes]byte
	_, _ = rand.Read(nonce[:]) // it never fails
	return placePrefix(t) + hex.EncodeToString(nonce[:]), nil
}

const nonceBytes = 6

func placePrefix(t tenancy.Tenant) string { return "t_" + readable(t.ID, '_') + "_" }

// checkPlaceName keeps provisioning away from every schema, database and login that placeName did not
// name for this tenant. A placement can be mistyped, or come from a catalogue that somebody else has
// written: it must not take over, or drop, the application's own.
func checkPlaceName(field, name string, t tenancy.Tenant) error {
	nonce, ok := strings.CutPrefix(name, placePrefix(t))
	if b, err := hex.DecodeString(nonce); ok && err == nil && len(b) == nonceBytes && dialect.IsPlainName(name) {
		return nil
	}
	return notPlaced(field, name)
}

func notPlaced(field, name string) error {
	return &tenancy.InvalidError{
		Field: "placement." + field, Value: name,
		Remedy: "the provisioner did not choose this name for the tenant: let Place choose, or make and drop the place by hand",
	}
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
