package demo

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// scramIterations is the server's own default.
const scramIterations = 4096

// scramVerifier returns what PostgreSQL stores of a password (RFC 5803), so that the password itself
// is in no statement.
func scramVerifier(password string) (string, error) {
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // it never fails
	return scramWith(password, scramIterations, salt[:])
}

func scramWith(password string, iterations int, salt []byte) (string, error) {
	for _, c := range []byte(password) {
		if c <= ' ' || c > '~' {
			return "", fmt.Errorf("a password holds a character that is not printable ASCII: take letters and digits")
		}
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
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
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode(salt), encode(stored[:]), encode(sign("Server Key"))), nil
}

// isPasswordOf reports whether a stored verifier is one of the password. What is no SCRAM verifier is
// none.
func isPasswordOf(verifier, password string) bool {
	_, rest, scram := strings.Cut(verifier, "SCRAM-SHA-256$")
	parameters, _, keys := strings.Cut(rest, "$")
	count, text, salted := strings.Cut(parameters, ":")
	iterations, err := strconv.Atoi(count)
	if !scram || !keys || !salted || err != nil || iterations < 1 || iterations > 1_000_000 {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	same, err := scramWith(password, iterations, salt)
	return err == nil && hmac.Equal([]byte(same), []byte(verifier))
}
