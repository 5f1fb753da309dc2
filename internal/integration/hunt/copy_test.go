package hunt_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/isolationtest"
	"lexigram.dev/tenancy/tenantpgx"
)

type copying = func(ctx context.Context, db isolationtest.DB, columns []string, rows [][]any) error

// handleOf returns the handle, also under a layer.
func handleOf(db isolationtest.DB) *isolation.DB {
	if l, ok := db.(*layered); ok {
		return l.under
	}
	return db.(*isolation.DB)
}

// copies are the ways to COPY on PostgreSQL: on the driver's own connection, which row security
// refuses, and by tenantpgx, which goes round it.
func copies(pipelines bool) map[string]copying {
	ways := map[string]copying{"COPY on the driver's connection": func(ctx context.Context, db isolationtest.DB, columns []string, rows [][]any) error {
		return isolation.Raw(ctx, handleOf(db), func(c any) error {
			conn, ok := c.(interface{ Conn() *pgx.Conn })
			if !ok {
				return fmt.Errorf("%T has no pgx.Conn", c)
			}
			_, err := conn.Conn().CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
			return err
		})
	}}
	if pipelines {
		ways["CopyFrom of tenantpgx"] = func(ctx context.Context, db isolationtest.DB, columns []string, rows [][]any) error {
			_, err := tenantpgx.New(handleOf(db)).CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
			return err
		}
	}
	return ways
}

// loads are the ways to LOAD DATA on MariaDB.
var loads = map[string]copying{"LOAD DATA": func(ctx context.Context, db isolationtest.DB, columns []string, rows [][]any) error {
	name := fmt.Sprintf("rows%d", loaded.Add(1))
	var text strings.Builder
	for _, values := range rows {
		fmt.Fprintln(&text, strings.ReplaceAll(strings.Trim(fmt.Sprintf("%q", values), "[]"), " ", ","))
	}
	mysql.RegisterReaderHandler(name, func() io.Reader { return strings.NewReader(text.String()) })
	defer mysql.DeregisterReaderHandler(name)
	_, err := db.ExecContext(ctx, "LOAD DATA LOCAL INFILE 'Reader::"+name+"' INTO TABLE "+table+
		" FIELDS TERMINATED BY ',' ENCLOSED BY '\"' ("+strings.Join(columns, ", ")+")")
	return err
}}

var loaded atomic.Int64
