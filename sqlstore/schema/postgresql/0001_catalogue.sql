-- The catalogue of tenants, version 1. Apply it with Store.Migrate, or by hand in one
-- transaction. The application's role needs USAGE on the schema and SELECT, INSERT, UPDATE
-- and DELETE on its tables, nothing more.

CREATE SCHEMA IF NOT EXISTS "tenancy";

CREATE TABLE "tenancy".schema_versions (
    version    bigint      PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- One row. Every write counts the revision up first and so waits for the write before it:
-- revisions become visible in their order.
CREATE TABLE "tenancy".meta (
    one      smallint PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    revision bigint   NOT NULL
);

INSERT INTO "tenancy".meta (revision) VALUES (0);

CREATE TABLE "tenancy".tenants (
    id            text COLLATE "C" PRIMARY KEY,
    slug          text COLLATE "C" NOT NULL,
    name          text             NOT NULL,
    status        text COLLATE "C" NOT NULL,
    status_reason text             NOT NULL,
    parent        text COLLATE "C" NOT NULL,
    region        text             NOT NULL,
    placement     text             NOT NULL, -- JSON object
    aliases       text             NOT NULL, -- JSON array of "kind:value"; their claim is in names
    metadata      text             NOT NULL, -- JSON object
    revision      bigint           NOT NULL,
    created_at    timestamptz      NOT NULL,
    updated_at    timestamptz      NOT NULL
);

-- A page of a listing reads one of these per status, in its order.
CREATE INDEX tenants_by_status ON "tenancy".tenants (status, id);
CREATE INDEX tenants_by_parent ON "tenancy".tenants (parent, status, id);
CREATE INDEX tenants_by_slug ON "tenancy".tenants (status, slug);
CREATE INDEX tenants_by_parent_slug ON "tenancy".tenants (parent, status, slug);

-- The one namespace of ids, slugs and aliases. A purged tenant keeps its rows.
CREATE TABLE "tenancy".names (
    name      text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES "tenancy".tenants (id)
);

CREATE TABLE "tenancy".memberships (
    tenant_id  text COLLATE "C" NOT NULL REFERENCES "tenancy".tenants (id),
    user_id    text COLLATE "C" NOT NULL,
    roles      text             NOT NULL, -- JSON array
    expires_at timestamptz,
    PRIMARY KEY (tenant_id, user_id)
);

CREATE TABLE "tenancy".config (
    tenant_id text COLLATE "C" NOT NULL REFERENCES "tenancy".tenants (id),
    name      text COLLATE "C" NOT NULL,
    value     text             NOT NULL, -- JSON as it was given
    PRIMARY KEY (tenant_id, name)
);

-- One row per revision; old ones are pruned.
CREATE TABLE "tenancy".changes (
    revision  bigint           PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL
);

-- Events that wait for delivery, in the order of their commits.
CREATE TABLE "tenancy".outbox (
    revision bigint           NOT NULL,
    position integer          NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    event    text             NOT NULL, -- JSON object
    PRIMARY KEY (revision, position)
);

CREATE INDEX outbox_by_event ON "tenancy".outbox (event_id);

INSERT INTO "tenancy".schema_versions (version) VALUES (1);
