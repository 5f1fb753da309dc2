package sqlc_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
)

// diary is what a shop's day looked like.
type diary struct{ entries []string }

// note writes down a result and its error.
func (d *diary) note(what string, result any, err error) {
	text, jsonErr := json.Marshal(result)
	if jsonErr != nil {
		text = []byte(jsonErr.Error())
	}
	entry := what + ": " + string(text)
	if err != nil {
		entry += " " + kind(err)
	}
	d.entries = append(d.entries, entry)
}

// kind tells an error without what differs from run to run.
func kind(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code + " " + e.ConstraintName
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return strconv.Itoa(int(e.Number)) // its text has the key's values, of which the tenant is one
	}
	if errors.Is(err, sql.ErrNoRows) {
		return "no rows"
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

// The day's facts.
var (
	noon      = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	precise   = time.Date(2026, 3, 1, 21, 0, 0, 123456000, time.FixedZone("JST", 9*60*60)) // in Tokyo
	born      = time.Date(1970, 5, 6, 0, 0, 0, 0, time.UTC)
	errNoMore = errors.New("not enough in stock")
)

func key(n byte) [16]byte { return [16]byte{15: n} }
