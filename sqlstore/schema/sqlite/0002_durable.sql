-- The catalogue of tenants, version 2: work in progress, deliveries, nodes, history. It adds and
-- takes nothing away, so that a program of version 1 that runs already goes on.

-- JSON object: the journal and former names, if any.
ALTER TABLE tenancy_tenants ADD COLUMN progress TEXT;
-- When there is something to do for the tenant.
ALTER TABLE tenancy_tenants ADD COLUMN due INTEGER;

CREATE INDEX tenancy_tenants_by_due ON tenancy_tenants (due, id) WHERE due IS NOT NULL;

ALTER TABLE tenancy_memberships ADD COLUMN reason TEXT;
ALTER TABLE tenancy_memberships ADD COLUMN granted_by TEXT;
ALTER TABLE tenancy_memberships ADD COLUMN granted_at INTEGER;

CREATE INDEX tenancy_memberships_by_user ON tenancy_memberships (user_id, tenant_id);

-- What every change of an override was, by revision of the catalogue. Secret values are sealed
-- in config and not here.
CREATE TABLE tenancy_config_history (
    tenant_id  TEXT    NOT NULL REFERENCES tenancy_tenants (id),
    revision   INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    old_value  TEXT, -- JSON, NULL when there was none
    new_value  TEXT, -- JSON, NULL when it was removed
    changed_by TEXT    NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, revision, position)
) WITHOUT ROWID;

ALTER TABLE tenancy_outbox ADD COLUMN tenant_id TEXT;
ALTER TABLE tenancy_outbox ADD COLUMN stored_at INTEGER;

CREATE INDEX tenancy_outbox_by_tenant ON tenancy_outbox (tenant_id, revision, position);

-- Who takes events: one row per sink, up to where all of them went to it, and who may deliver now.
CREATE TABLE tenancy_sinks (
    name     TEXT    PRIMARY KEY NOT NULL,
    revision INTEGER NOT NULL,
    position INTEGER NOT NULL,
    owner    TEXT    NOT NULL,
    until    INTEGER NOT NULL
) WITHOUT ROWID;

-- A tenant whose next event a sink refused: its events from there on wait.
CREATE TABLE tenancy_holds (
    sink      TEXT    NOT NULL REFERENCES tenancy_sinks (name) ON DELETE CASCADE,
    tenant_id TEXT    NOT NULL,
    revision  INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    attempts  INTEGER NOT NULL,
    error     TEXT    NOT NULL,
    due       INTEGER, -- NULL: parked until somebody decides
    PRIMARY KEY (sink, tenant_id)
) WITHOUT ROWID;

-- The processes that serve, and up to which revision their caches follow.
CREATE TABLE tenancy_nodes (
    id         TEXT    PRIMARY KEY NOT NULL,
    revision   INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
) WITHOUT ROWID;

INSERT INTO tenancy_schema_versions (version) VALUES (2);
