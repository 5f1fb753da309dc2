package tenantpgx

import (
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxStatements bounds the prepared statements of one connection.
const maxStatements = 256

// statements are the prepared statements of a direct connection.
type statements struct {
	byKey   map[statementKey]*statement
	dropped []string // names to deallocate with the next frame
	serial  int
}

// statementKey is a text and the schemas in which its names were found. In others it is another
// statement: the server would make its plan anew each time it comes to it from elsewhere, and its
// types may be others.
type statementKey struct{ sql, place string }

// statement is a prepared statement. It exists once the server has said so, whatever became of
// the transaction around it.
type statement struct {
	name   string
	key    statementKey
	exists bool
	// known are its columns, so that the server need not tell them with each result; nil until they
	// are.
	known *pgconn.StatementDescription
}

// planned are the words that a statement begins with whose columns never change as long as it is
// prepared: the server refuses it when they would. Not so FETCH, EXECUTE, CALL or SHOW.
var planned = []string{"select", "with", "insert", "update", "delete", "merge", "values", "table"}

func isPlanned(sql string) bool {
	sql = strings.TrimLeft(sql, " \t\r\n")
	return slices.ContainsFunc(planned, func(word string) bool {
		return len(sql) > len(word) && strings.EqualFold(sql[:len(word)], word) && strings.IndexByte(" \t\r\n", sql[len(word)]) >= 0
	})
}

// learn remembers the columns that the server told with a result of the statement.
func (m *statement) learn(fields []pgconn.FieldDescription) {
	if m.known == nil && len(fields) > 0 && isPlanned(m.key.sql) {
		m.known = &pgconn.StatementDescription{Name: m.name, Fields: slices.Clone(fields)}
	}
}

func (s *statements) get(key statementKey) *statement { return s.byKey[key] }

// add makes room for a statement and names it.
func (s *statements) add(key statementKey) *statement {
	if s.byKey == nil {
		s.byKey = make(map[statementKey]*statement)
	}
	if len(s.byKey) >= maxStatements {
		for other := range s.byKey { // any: to know the oldest would cost every execution
			if !isBind(other.sql) {
				s.drop(other)
				break
			}
		}
	}
	s.serial++
	added := &statement{name: "tenancy_" + strconv.Itoa(s.serial), key: key}
	if i := slices.Index(bindTexts[:], key.sql); i >= 0 {
		added.learn(bindFields[:2*(i+1)])
	}
	s.byKey[key] = added
	return added
}

// made notes that the server has a statement. One that was dropped meanwhile is deallocated.
func (s *statements) made(m *statement) {
	m.exists = true
	if s.byKey[m.key] != m {
		s.dropped = append(s.dropped, m.name)
	}
}

// drop forgets a statement and remembers to deallocate it.
func (s *statements) drop(key statementKey) {
	if old := s.byKey[key]; old != nil {
		delete(s.byKey, key)
		if old.exists {
			s.dropped = append(s.dropped, old.name)
		}
	}
}

// dropMissing forgets the statements that the server did not get to prepare.
func (s *statements) dropMissing(answers []answer) {
	for _, a := range answers {
		if a.prepared != nil && !a.prepared.exists {
			s.drop(a.prepared.key)
		}
	}
}

// takeDropped returns the names to deallocate, once.
func (s *statements) takeDropped() []string {
	names := s.dropped
	s.dropped = nil
	return names
}
