-- The catalogue of tenants, version 2: work in progress, deliveries, nodes, history. It adds and
-- takes nothing away, so that a program of version 1 that runs already goes on.

-- JSON object: the journal and former names, if any.
ALTER TABLE "tenancy".tenants ADD COLUMN progress text;
-- When there is something to do for the tenant.
ALTER TABLE "tenancy".tenants ADD COLUMN due timestamptz;

CREATE INDEX tenants_by_due ON "tenancy".tenants (due, id) WHERE due IS NOT NULL;

ALTER TABLE "tenancy".memberships ADD COLUMN reason text;
ALTER TABLE "tenancy".memberships ADD COLUMN granted_by text;
ALTER TABLE "tenancy".memberships ADD COLUMN granted_at timestamptz;

CREATE INDEX memberships_by_user ON "tenancy".memberships (user_id, tenant_id);

-- What every change of an override was, by revision of the catalogue. Secret values are sealed
-- in config and not here.
CREATE TABLE "tenancy".config_history (
    tenant_id  text COLLATE "C" NOT NULL REFERENCES "tenancy".tenants (id),
    revision   bigint           NOT NULL,
    position   integer          NOT NULL,
    name       text COLLATE "C" NOT NULL,
    old_value  text, -- JSON, NULL when there was none
    new_value  text, -- JSON, NULL when it was removed
    changed_by text             NOT NULL,
    changed_at timestamptz      NOT NULL,
    PRIMARY KEY (tenant_id, revision, position)
);

ALTER TABLE "tenancy".outbox ADD COLUMN tenant_id text COLLATE "C";
ALTER TABLE "tenancy".outbox ADD COLUMN stored_at timestamptz;

CREATE INDEX outbox_by_tenant ON "tenancy".outbox (tenant_id, revision, position);

-- Who takes events: one row per sink, up to where all of them went to it, and who may deliver now.
CREATE TABLE "tenancy".sinks (
    name     text COLLATE "C" PRIMARY KEY,
    revision bigint           NOT NULL,
    position integer          NOT NULL,
    owner    text COLLATE "C" NOT NULL,
    until    timestamptz      NOT NULL
);

-- A tenant whose next event a sink refused: its events from there on wait.
CREATE TABLE "tenancy".holds (
    sink      text COLLATE "C" NOT NULL REFERENCES "tenancy".sinks (name) ON DELETE CASCADE,
    tenant_id text COLLATE "C" NOT NULL,
    revision  bigint           NOT NULL,
    position  integer          NOT NULL,
    attempts  integer          NOT NULL,
    error     text             NOT NULL,
    due       timestamptz, -- NULL: parked until somebody decides
    PRIMARY KEY (sink, tenant_id)
);

-- The processes that serve, and up to which revision their caches follow.
CREATE TABLE "tenancy".nodes (
    id         text COLLATE "C" PRIMARY KEY,
    revision   bigint           NOT NULL,
    started_at timestamptz      NOT NULL,
    seen_at    timestamptz      NOT NULL
);

INSERT INTO "tenancy".schema_versions (version) VALUES (2);
