-- The catalogue of tenants, version 1, in the database that the connection names. Apply it with
-- Store.Migrate, or by hand from one client. The engine commits each statement by itself, so
-- every one may be repeated after a failure. The application's user needs SELECT, INSERT, UPDATE
-- and DELETE on the tables, nothing more.
--
-- What is compared or ordered is binary: no letter case, no accents, no padding, whatever the
-- server's character set is. Times are whole microseconds since 1970 in UTC.

CREATE TABLE IF NOT EXISTS tenancy_schema_versions (
    version    BIGINT       NOT NULL PRIMARY KEY,
    applied_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB;

-- One row. Every write counts the revision up first and so waits for the write before it:
-- revisions become visible in their order.
CREATE TABLE IF NOT EXISTS tenancy_meta (
    one      SMALLINT NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    revision BIGINT   NOT NULL
) ENGINE = InnoDB;

INSERT INTO tenancy_meta (revision) SELECT 0 FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM tenancy_meta);

-- A page of a listing reads one of the indexes per status, in its order.
CREATE TABLE IF NOT EXISTS tenancy_tenants (
    id            VARBINARY(128) NOT NULL PRIMARY KEY,
    slug          VARBINARY(63)  NOT NULL,
    name          TEXT           NOT NULL,
    status        VARBINARY(32)  NOT NULL,
    status_reason TEXT           NOT NULL,
    parent        VARBINARY(128) NOT NULL,
    region        TEXT           NOT NULL,
    placement     MEDIUMTEXT     NOT NULL, -- JSON object
    aliases       MEDIUMTEXT     NOT NULL, -- JSON array of "kind:value", their claim is in names
    metadata      MEDIUMTEXT     NOT NULL, -- JSON object
    revision      BIGINT         NOT NULL,
    created_at    BIGINT         NOT NULL,
    updated_at    BIGINT         NOT NULL,
    INDEX tenancy_tenants_by_status (status, id),
    INDEX tenancy_tenants_by_parent (parent, status, id),
    INDEX tenancy_tenants_by_slug (status, slug),
    INDEX tenancy_tenants_by_parent_slug (parent, status, slug)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The one namespace of ids, slugs and aliases. A purged tenant keeps its rows.
CREATE TABLE IF NOT EXISTS tenancy_names (
    name      VARBINARY(320) NOT NULL PRIMARY KEY,
    tenant_id VARBINARY(128) NOT NULL,
    CONSTRAINT tenancy_names_tenant FOREIGN KEY (tenant_id) REFERENCES tenancy_tenants (id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS tenancy_memberships (
    tenant_id  VARBINARY(128) NOT NULL,
    user_id    VARBINARY(255) NOT NULL,
    roles      MEDIUMTEXT     NOT NULL, -- JSON array
    expires_at BIGINT,
    PRIMARY KEY (tenant_id, user_id),
    CONSTRAINT tenancy_memberships_tenant FOREIGN KEY (tenant_id) REFERENCES tenancy_tenants (id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tenancy_config (
    tenant_id VARBINARY(128) NOT NULL,
    name      VARBINARY(255) NOT NULL,
    value     MEDIUMTEXT     NOT NULL, -- JSON as it was given
    PRIMARY KEY (tenant_id, name),
    CONSTRAINT tenancy_config_tenant FOREIGN KEY (tenant_id) REFERENCES tenancy_tenants (id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row per revision, old ones are pruned.
CREATE TABLE IF NOT EXISTS tenancy_changes (
    revision  BIGINT         NOT NULL PRIMARY KEY,
    tenant_id VARBINARY(128) NOT NULL
) ENGINE = InnoDB;

-- Events that wait for delivery, in the order of their commits.
CREATE TABLE IF NOT EXISTS tenancy_outbox (
    revision BIGINT         NOT NULL,
    position INTEGER        NOT NULL,
    event_id VARBINARY(255) NOT NULL,
    event    MEDIUMTEXT     NOT NULL, -- JSON object
    PRIMARY KEY (revision, position),
    INDEX tenancy_outbox_by_event (event_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- A table of one of these names that was there before is an error here.
SELECT one, revision FROM tenancy_meta LIMIT 0;

SELECT id, slug, name, status, status_reason, parent, region, placement, aliases, metadata, revision, created_at, updated_at
FROM tenancy_tenants FORCE INDEX (tenancy_tenants_by_status, tenancy_tenants_by_parent, tenancy_tenants_by_slug, tenancy_tenants_by_parent_slug) LIMIT 0;

SELECT name, tenant_id FROM tenancy_names LIMIT 0;

SELECT tenant_id, user_id, roles, expires_at FROM tenancy_memberships LIMIT 0;

SELECT tenant_id, name, value FROM tenancy_config LIMIT 0;

SELECT revision, tenant_id FROM tenancy_changes LIMIT 0;

SELECT revision, position, event_id, event FROM tenancy_outbox FORCE INDEX (tenancy_outbox_by_event) LIMIT 0;

INSERT INTO tenancy_schema_versions (version) VALUES (1);
