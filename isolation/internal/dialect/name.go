package dialect

import (
	"crypto/sha256"
	"encoding/hex"
)

// maxName is the length of PostgreSQL's names in bytes.
const maxName = 63

// ShortName returns name if it fits, else its beginning and a hash of it all.
func ShortName(name string) string {
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:maxName-17] + "_" + hex.EncodeToString(sum[:8])
}
