package store_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/sqlstore"
)

func set(values map[string]json.RawMessage) func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
	return func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
		w := tenancy.ConfigWrite{Values: values}
		for key, value := range values {
			w.History = append(w.History, tenancy.ConfigRecord{
				ConfigChange: tenancy.ConfigChange{Key: key, New: value}, Time: time.Now(),
			})
		}
		return w, nil
	}
}

// While a fleet is upgraded, the program runs on the catalogue of the version before.
func TestOverridesAndMembersOnACatalogueOfVersion1(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		store, db := versionOne(t, e)
		ctx := t.Context()
		acme, err := store.Create(ctx, anyTenant)
		if err != nil {
			t.Fatal(err)
		}
		member := tenancy.Member{Roles: []string{"owner"}, Expires: time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)}
		err = errors.Join(
			store.SaveConfig(ctx, acme.ID, set(map[string]json.RawMessage{"a": json.RawMessage(`1`), "b": json.RawMessage(`2`)})),
			store.SaveConfig(ctx, acme.ID, set(map[string]json.RawMessage{"b": nil})),
			store.SetMember(ctx, "alice", acme.ID, member),
			store.SetMember(ctx, "bob", acme.ID, tenancy.Member{Expires: time.Unix(0, 0)}),
		)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := store.PruneMembers(ctx, acme.ID, time.Now()); n != 1 || err != nil {
			t.Errorf("PruneMembers: %d, %v", n, err)
		}
		grant := tenancy.Member{Reason: "ticket", GrantedBy: "ann", GrantedAt: time.Now(), Expires: time.Now().Add(time.Hour)}
		newer := func() map[string]error {
			errs := map[string]error{}
			_, errs["ConfigHistory"] = store.ConfigHistory(ctx, acme.ID, tenancy.HistoryOptions{})
			_, errs["ListMembers"] = store.ListMembers(ctx, tenancy.MemberListOptions{TenantID: acme.ID})
			errs["GrantMember"] = store.GrantMember(ctx, "sam", acme.ID, grant)
			errs["SetMember with a grant"] = store.SetMember(ctx, "sam", acme.ID, grant)
			return errs
		}
		for name, err := range newer() {
			wrong, ok := errors.AsType[*sqlstore.SchemaError](err)
			if !ok || wrong.Have != 1 || wrong.Want != 2 || !strings.Contains(err.Error(), "Store.Migrate") {
				t.Errorf("%s: %v; want a SchemaError that names the remedy", name, err)
			}
		}
		check := func() {
			t.Helper()
			values, err := store.LoadConfig(ctx, acme.ID)
			if err != nil || len(values) != 1 || string(values["a"]) != `1` {
				t.Errorf("the overrides are %s, %v", values, err)
			}
			got, err := store.Member(ctx, "alice", acme.ID)
			if err != nil || !got.Expires.Equal(member.Expires) || len(got.Roles) != 1 || got.IsGrant() {
				t.Errorf("the member is %+v, %v", got, err)
			}
			if _, err := store.Member(ctx, "sam", acme.ID); !errors.Is(err, tenancy.ErrNotMember) {
				t.Errorf("the refused grant: %v", err)
			}
		}
		check()
		// Another process brings the catalogue to version 2 meanwhile.
		if err := newStore(t, db, e.config()).Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		check()
		if err := store.Check(ctx); err != nil {
			t.Fatal(err)
		}
		for name, err := range newer() {
			if err != nil {
				t.Errorf("%s on version 2: %v", name, err)
			}
		}
		// A program of version 1 that still runs knows nothing of grants and history.
		for _, statement := range []string{
			`DELETE FROM ` + e.table("memberships") + ` WHERE user_id = 'sam'`,
			`INSERT INTO ` + e.table("memberships") + ` (tenant_id, user_id, roles, expires_at) VALUES ('id-acme', 'old', '["x"]', NULL)`,
			`UPDATE ` + e.table("config") + ` SET value = '3'`,
		} {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				t.Fatal(err)
			}
		}
		if m, err := store.Member(ctx, "old", acme.ID); err != nil || m.IsGrant() || len(m.Roles) != 1 {
			t.Errorf("a member that version 1 wrote: %+v, %v", m, err)
		}
		if err := store.GrantMember(ctx, "old", acme.ID, grant); !errors.Is(err, tenancy.ErrConflict) {
			t.Errorf("a grant to it: %v", err)
		}
		if page, err := store.ConfigHistory(ctx, acme.ID, tenancy.HistoryOptions{}); err != nil || len(page.Records) > 0 {
			t.Errorf("the history is %+v, %v", page, err)
		}
	})
}

// Two processes over one catalogue, without a bus.
func TestAChangedOverrideIsReadByAnotherProcessWithinASecond(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		store, db := migrated(t, e)
		acme, err := store.Create(t.Context(), anyTenant)
		if err != nil {
			t.Fatal(err)
		}
		limit := tenancy.NewKey("limit", 0)
		node := func() *tenancy.Tenancy {
			tn, err := tenancy.New(tenancy.Config{
				Store: newStore(t, db, e.config()), Keys: []tenancy.AnyKey{limit}, Logger: slog.New(slog.DiscardHandler),
				Overrides:  tenancy.OverridesConfig{CacheTTL: time.Hour},
				Resolution: tenancy.ResolutionConfig{PollInterval: 500 * time.Millisecond},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := tn.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = tn.Stop(context.Background()) })
			return tn
		}
		a, b := node(), node()
		for want := 1; want <= 5; want++ {
			if _, err := limit.Of(t.Context(), b.Overrides(), acme.ID); err != nil { // it is cached there
				t.Fatal(err)
			}
			if err := limit.Set(t.Context(), a.Overrides(), acme.ID, want); err != nil {
				t.Fatal(err)
			}
			if n, err := limit.Of(t.Context(), a.Overrides(), acme.ID); n != want || err != nil {
				t.Errorf("the process that set it reads %d, %v; want %d", n, err, want)
			}
			began := time.Now()
			for {
				n, err := limit.Of(t.Context(), b.Overrides(), acme.ID)
				if err != nil {
					t.Fatal(err)
				}
				if n == want {
					break
				}
				if took := time.Since(began); took > 10*time.Second { // the machine is shared
					t.Fatalf("the other process reads %d after %v; want %d", n, took, want)
				}
				time.Sleep(5 * time.Millisecond)
			}
			t.Logf("after %v", time.Since(began))
		}
	})
}

// Racing edits of several keys through two processes: all that is acknowledged is there.
func TestRacingEditsOfTwoProcessesLoseNothing(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		store, db := migrated(t, e)
		acme, err := store.Create(t.Context(), anyTenant)
		if err != nil {
			t.Fatal(err)
		}
		node := func() *tenancy.Overrides {
			tn, err := tenancy.New(tenancy.Config{Store: newStore(t, db, e.config()), Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return tn.Overrides()
		}
		nodes := []*tenancy.Overrides{node(), node()}
		const writers, rounds = 10, 6
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				o := nodes[w%2]
				for i := range rounds {
					_, err := o.Edit(t.Context(), acme.ID, tenancy.Edit{Set: map[string]any{
						fmt.Sprintf("own-%d", w): i, fmt.Sprintf("more-%d-%d", w, i): true, "all": fmt.Sprintf("%d-%d", w, i),
					}})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		own, err := nodes[0].Own(t.Context(), acme.ID)
		if err != nil || len(own.Values) != writers+writers*rounds+1 {
			t.Fatalf("%d values are there, %v; want %d", len(own.Values), err, writers+writers*rounds+1)
		}
		for w := range writers {
			if got := string(own.Values[fmt.Sprintf("own-%d", w)]); got != fmt.Sprint(rounds-1) {
				t.Errorf("writer %d's last value is %s", w, got)
			}
		}
		// The history of the shared key is one chain.
		var after, last string
		n := 0
		for opts := (tenancy.HistoryOptions{Limit: 17}); ; opts.After = after {
			page, err := nodes[1].History(t.Context(), acme.ID, opts)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Records {
				if r.Key != "all" {
					continue
				}
				if n > 0 && string(r.New) != last {
					t.Fatalf("the history has %s before a change of %s", r.New, last)
				}
				n, last = n+1, string(r.Old)
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if n != writers*rounds || last != "" {
			t.Errorf("the chain has %d changes and begins with %q; want %d and nothing", n, last, writers*rounds)
		}
		if events, err := store.ReadEvents(t.Context(), tenancy.Position{}, "", 1000); err != nil || len(events) != 3*writers*rounds {
			t.Errorf("%d events, %v; want one per changed key, %d", len(events), err, 3*writers*rounds)
		}
	})
}

// fillSettings makes many members and records: a tenant with many of either, a user with many
// tenants, and many others.
func fillSettings(e engine) []string {
	series, pad, now := "generate_series(0, 2999) AS i", "lpad(i::text, 6, '0')", "now()"
	prefix := ""
	switch e.dialect {
	case sqlstore.SQLite:
		prefix = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2999) "
		series, pad, now = "n", "printf('%06d', i)", "0"
	case sqlstore.MariaDB:
		series, pad, now = "(SELECT seq AS i FROM seq_0_to_2999) AS n", "lpad(i, 6, '0')", "0"
	}
	tenant := "'t-' || " + pad
	insert := func(table, columns, values, where string) string {
		statement := "INSERT INTO " + e.table(table) + " (" + columns + ") "
		if e.dialect == sqlstore.MariaDB {
			values = strings.ReplaceAll(values, tenant, "concat('t-', "+pad+")")
			values = strings.ReplaceAll(values, "'u-' || "+pad, "concat('u-', "+pad+")")
		}
		if prefix != "" {
			statement = prefix + statement
		}
		return statement + "SELECT " + values + " FROM " + series + where
	}
	statements := []string{
		insert("tenants", "id, slug, name, status, status_reason, parent, region, placement, aliases, metadata, revision, created_at, updated_at",
			tenant+", "+tenant+", '', 'active', '', '', '', '{}', 'null', 'null', 1, "+now+", "+now, ""),
		insert("memberships", "tenant_id, user_id, roles", "'t-000007', 'u-' || "+pad+", '[]'", ""),
		insert("memberships", "tenant_id, user_id, roles", tenant+", 'u-000007', '[]'", " WHERE i <> 7"),
		insert("memberships", "tenant_id, user_id, roles", tenant+", 'u-' || "+pad+", '[]'", " WHERE i <> 7"),
		insert("config_history", "tenant_id, revision, position, name, changed_by, changed_at", "'t-000007', i / 10, i % 10 + 1, 'k', '', "+now, ""),
		insert("config_history", "tenant_id, revision, position, name, changed_by, changed_at", tenant+", i, 1, 'k', '', "+now, " WHERE i <> 7"),
	}
	switch e.dialect {
	case sqlstore.PostgreSQL:
		statements = append(statements, "ANALYZE")
	case sqlstore.MariaDB:
		for i := range statements {
			statements[i] = strings.ReplaceAll(statements[i], "i / 10", "i DIV 10")
		}
		statements = append(statements, "ANALYZE TABLE tenancy_tenants, tenancy_memberships, tenancy_config_history")
	}
	return statements
}

func TestListsOfMembersAndHistoriesStayOnAnIndex(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		var db *sql.DB
		var recorded *recorder
		switch e.dialect {
		case sqlstore.SQLite:
			db, recorded = record(t, "sqlite", sqliteURL(t))
		case sqlstore.PostgreSQL:
			server := servers.Postgres(t)
			db, recorded = record(t, "pgx", server.URL(server.CreateDatabase(t)))
		case sqlstore.MariaDB:
			server := servers.MariaDB(t)
			db, recorded = record(t, "mysql", server.DSN(server.CreateDatabase(t)))
		}
		ctx := t.Context()
		store := newStore(t, db, e.config())
		if err := store.Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		for _, statement := range fillSettings(e) {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		only := func(fn func() (int, error), want int) statement {
			t.Helper()
			all := recorded.during(func() {
				if n, err := fn(); err != nil || n != want {
					t.Fatalf("%d are listed, %v; want %d", n, err, want)
				}
			})
			if len(all) != 1 {
				t.Fatalf("%d statements are run; want one: %v", len(all), all)
			}
			return all[0]
		}
		const limit = 20
		for _, opts := range []tenancy.MemberListOptions{
			{TenantID: "t-000007"}, {TenantID: "t-000007", After: "u-001500"}, {UserID: "u-000007"}, {UserID: "u-000007", After: "t-001500"},
		} {
			opts.Limit = limit
			s := only(func() (int, error) {
				page, err := store.ListMembers(ctx, opts)
				return len(page.Members), err
			}, limit)
			bounded(t, e, db, fmt.Sprintf("ListMembers(%+v)", opts), s, limit+1)
		}
		for _, after := range []string{"", "150.5"} {
			opts := tenancy.HistoryOptions{After: after, Limit: limit}
			s := only(func() (int, error) {
				page, err := store.ConfigHistory(ctx, "t-000007", opts)
				return len(page.Records), err
			}, limit)
			bounded(t, e, db, fmt.Sprintf("ConfigHistory(%+v)", opts), s, limit+1+10) // and the rest of one write
		}
	})
}
