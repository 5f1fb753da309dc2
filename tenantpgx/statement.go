package tenantpgx

import "strconv"

// maxStatements bounds the prepared statements of one connection.
const maxStatements = 256

// statements are the prepared statements of a direct connection.
type statements struct {
	bySQL   map[string]*statement
	dropped []string // names to deallocate with the next frame
	serial  int
}

// statement is a prepared statement. It exists once the server has said so, whatever became of
// the transaction around it.
type statement struct {
	name   string
	sql    string
	exists bool
}

func (s *statements) get(sql string) *statement { return s.bySQL[sql] }

// add makes room for a statement and names it.
func (s *statements) add(sql string) *statement {
	if s.bySQL == nil {
		s.bySQL = make(map[string]*statement)
	}
	if len(s.bySQL) >= maxStatements {
		for other := range s.bySQL { // any: to know the oldest would cost every execution
			if other != bindSQL {
				s.drop(other)
				break
			}
		}
	}
	s.serial++
	added := &statement{name: "tenancy_" + strconv.Itoa(s.serial), sql: sql}
	s.bySQL[sql] = added
	return added
}

// made notes that the server has a statement. One that was dropped meanwhile is deallocated.
func (s *statements) made(m *statement) {
	m.exists = true
	if s.bySQL[m.sql] != m {
		s.dropped = append(s.dropped, m.name)
	}
}

// drop forgets a statement and remembers to deallocate it.
func (s *statements) drop(sql string) {
	if old := s.bySQL[sql]; old != nil {
		delete(s.bySQL, sql)
		if old.exists {
			s.dropped = append(s.dropped, old.name)
		}
	}
}

// dropMissing forgets the statements that the server did not get to prepare.
func (s *statements) dropMissing(answers []answer) {
	for _, a := range answers {
		if a.prepared != nil && !a.prepared.exists {
			s.drop(a.prepared.sql)
		}
	}
}

// takeDropped returns the names to deallocate, once.
func (s *statements) takeDropped() []string {
	names := s.dropped
	s.dropped = nil
	return names
}
