// Package notes is an ordinary notes application over a *sql.DB. Its handlers and its SQL, in
// notes.go, know nothing of tenants: the database that they are given finds out from the
// request's context whose notes are meant. Only [Live], which keeps its listeners in memory,
// where no database stands guard, has to ask.
package notes
