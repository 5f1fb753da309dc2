-- The catalogue of tenants, version 1. Apply it with Store.Migrate, or by hand in one
-- transaction. Times are whole microseconds since 1970 in UTC.

CREATE TABLE tenancy_schema_versions (
    version    INTEGER PRIMARY KEY,
    applied_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER) * 1000000)
);

-- One row. Every write counts the revision up first and so waits for the write before it:
-- revisions become visible in their order.
CREATE TABLE tenancy_meta (
    one      INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    revision INTEGER NOT NULL
);

INSERT INTO tenancy_meta (revision) VALUES (0);

CREATE TABLE tenancy_tenants (
    id            TEXT    PRIMARY KEY NOT NULL,
    slug          TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    status        TEXT    NOT NULL,
    status_reason TEXT    NOT NULL,
    parent        TEXT    NOT NULL,
    region        TEXT    NOT NULL,
    placement     TEXT    NOT NULL, -- JSON object
    aliases       TEXT    NOT NULL, -- JSON array of "kind:value"; their claim is in names
    metadata      TEXT    NOT NULL, -- JSON object
    revision      INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
);

-- A page of a listing reads one of these per status, in its order.
CREATE INDEX tenancy_tenants_by_status ON tenancy_tenants (status, id);
CREATE INDEX tenancy_tenants_by_parent ON tenancy_tenants (parent, status, id);
CREATE INDEX tenancy_tenants_by_slug ON tenancy_tenants (status, slug);
CREATE INDEX tenancy_tenants_by_parent_slug ON tenancy_tenants (parent, status, slug);

-- The one namespace of ids, slugs and aliases. A purged tenant keeps its rows.
CREATE TABLE tenancy_names (
    name      TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenancy_tenants (id)
) WITHOUT ROWID;

CREATE TABLE tenancy_memberships (
    tenant_id  TEXT    NOT NULL REFERENCES tenancy_tenants (id),
    user_id    TEXT    NOT NULL,
    roles      TEXT    NOT NULL, -- JSON array
    expires_at INTEGER,
    PRIMARY KEY (tenant_id, user_id)
) WITHOUT ROWID;

CREATE TABLE tenancy_config (
    tenant_id TEXT NOT NULL REFERENCES tenancy_tenants (id),
    name      TEXT NOT NULL,
    value     TEXT NOT NULL, -- JSON as it was given
    PRIMARY KEY (tenant_id, name)
);

-- One row per revision; old ones are pruned.
CREATE TABLE tenancy_changes (
    revision  INTEGER PRIMARY KEY,
    tenant_id TEXT    NOT NULL
);

-- Events that wait for delivery, in the order of their commits.
CREATE TABLE tenancy_outbox (
    revision INTEGER NOT NULL,
    position INTEGER NOT NULL,
    event_id TEXT    NOT NULL,
    event    TEXT    NOT NULL, -- JSON object
    PRIMARY KEY (revision, position)
);

CREATE INDEX tenancy_outbox_by_event ON tenancy_outbox (event_id);

INSERT INTO tenancy_schema_versions (version) VALUES (1);
