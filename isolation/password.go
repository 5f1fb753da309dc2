package isolation

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// minKey is the length of a key in bytes that cannot be guessed.
const minKey = 32

func checkKey(key []byte, field string) error {
	if len(key) < minKey {
		return fmt.Errorf("%s has %d bytes: give at least %d random ones, from your secrets", field, len(key), minKey)
	}
	return nil
}

// derivePassword returns the password of a tenant's login. It is stored nowhere.
func derivePassword(key []byte, login string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("tenancy login " + login))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// scramVerifier returns what PostgreSQL stores of a password (RFC 5803), so that the password
// itself appears in no statement and no log of the server.
func scramVerifier(password string) (string, error) {
	const iterations = 4096 // the server's own default; the password has 256 random bits
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // it never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt[:], iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	sign := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode(salt[:]), encode(stored[:]), encode(sign("Server Key"))), nil
}
