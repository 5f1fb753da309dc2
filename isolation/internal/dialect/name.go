package dialect

import (
	"crypto/sha256"
	"encoding/hex"
)

// maxName is the length of PostgreSQL's names in bytes.
const maxName = 63

// IsPlainName reports whether a name reads the same quoted and not quoted, and fits.
func IsPlainName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && len(name) <= maxName
}

// ShortName returns name if it fits, else its beginning and a hash of it all.
func ShortName(name string) string {
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:maxName-17] + "_" + hex.EncodeToString(sum[:8])
}
