-- The catalogue of tenants, version 2: work in progress, deliveries, nodes, history. It adds and
-- takes nothing away, so that a program of version 1 that runs already goes on. On MariaDB it may
-- be repeated after it failed half-way; MySQL then names the column that is there already.

ALTER TABLE tenancy_tenants
    ADD COLUMN /*M! IF NOT EXISTS */ progress MEDIUMTEXT, -- JSON object: the journal and former names, if any
    ADD COLUMN /*M! IF NOT EXISTS */ due BIGINT, -- when there is something to do for the tenant
    ADD INDEX /*M! IF NOT EXISTS */ tenancy_tenants_by_due (due, id);

ALTER TABLE tenancy_memberships
    ADD COLUMN /*M! IF NOT EXISTS */ reason TEXT,
    ADD COLUMN /*M! IF NOT EXISTS */ granted_by VARBINARY(255),
    ADD COLUMN /*M! IF NOT EXISTS */ granted_at BIGINT,
    ADD INDEX /*M! IF NOT EXISTS */ tenancy_memberships_by_user (user_id, tenant_id);

-- What every change of an override was, by revision of the catalogue. Secret values are sealed
-- in config and not here.
CREATE TABLE IF NOT EXISTS tenancy_config_history (
    tenant_id  VARBINARY(128) NOT NULL,
    revision   BIGINT         NOT NULL,
    position   INTEGER        NOT NULL,
    name       VARBINARY(255) NOT NULL,
    old_value  MEDIUMTEXT, -- JSON, NULL when there was none
    new_value  MEDIUMTEXT, -- JSON, NULL when it was removed
    changed_by VARBINARY(255) NOT NULL,
    changed_at BIGINT         NOT NULL,
    PRIMARY KEY (tenant_id, revision, position),
    CONSTRAINT tenancy_config_history_tenant FOREIGN KEY (tenant_id) REFERENCES tenancy_tenants (id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

ALTER TABLE tenancy_outbox
    ADD COLUMN /*M! IF NOT EXISTS */ tenant_id VARBINARY(255),
    ADD COLUMN /*M! IF NOT EXISTS */ stored_at BIGINT,
    ADD INDEX /*M! IF NOT EXISTS */ tenancy_outbox_by_tenant (tenant_id, revision, position);

-- Who takes events: one row per sink, up to where all of them went to it, and who may deliver now.
CREATE TABLE IF NOT EXISTS tenancy_sinks (
    name     VARBINARY(128) NOT NULL PRIMARY KEY,
    revision BIGINT         NOT NULL,
    position INTEGER        NOT NULL,
    owner    VARBINARY(255) NOT NULL,
    until    BIGINT         NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- A tenant whose next event a sink refused: its events from there on wait.
CREATE TABLE IF NOT EXISTS tenancy_holds (
    sink      VARBINARY(128) NOT NULL,
    tenant_id VARBINARY(255) NOT NULL,
    revision  BIGINT         NOT NULL,
    position  INTEGER        NOT NULL,
    attempts  INTEGER        NOT NULL,
    error     TEXT           NOT NULL,
    due       BIGINT, -- NULL: parked until somebody decides
    PRIMARY KEY (sink, tenant_id),
    CONSTRAINT tenancy_holds_sink FOREIGN KEY (sink) REFERENCES tenancy_sinks (name) ON DELETE CASCADE
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The processes that serve, and up to which revision their caches follow.
CREATE TABLE IF NOT EXISTS tenancy_nodes (
    id         VARBINARY(128) NOT NULL PRIMARY KEY,
    revision   BIGINT         NOT NULL,
    started_at BIGINT         NOT NULL,
    seen_at    BIGINT         NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO tenancy_schema_versions (version) VALUES (2);
