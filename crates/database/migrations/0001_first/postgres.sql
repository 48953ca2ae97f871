-- The first schema, for PostgreSQL. Its twin is sqlite.sql; schema.sql is what both must add up to.
-- Text is compared byte by byte ("C"), as SQLite does, so that pages and cursors agree. Times are moments; money is in minor units.

-- One row a fact about the database itself: the encryption key's fingerprint, whether purchases are locked, the last reconcile.
CREATE TABLE meta (
    name TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    CONSTRAINT meta_pkey PRIMARY KEY (name)
);

-- The one counter of everything that calls depend on. It is bumped last in a transaction, so its order is the order of commits.
CREATE TABLE route_state (
    id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT route_state_pkey PRIMARY KEY (id),
    CHECK (id = 1)
);

-- What each version changed, so that a node rebuilds only that.
CREATE TABLE route_changes (
    version BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    CONSTRAINT route_changes_pkey PRIMARY KEY (version, kind, id),
    CHECK (kind IN ('number', 'agent', 'workspace', 'secret'))
);

-- Tenants. Everything below belongs to exactly one.
CREATE TABLE workspaces (
    id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    settings JSONB NOT NULL,
    revision BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT workspaces_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX workspaces_name ON workspaces (name);

-- The end of each workspace's audit chain and event feed. Whoever changes anything in a workspace locks this row first.
CREATE TABLE workspace_heads (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    audit_seq BIGINT NOT NULL,
    audit_hash TEXT COLLATE "C" NOT NULL,
    event_seq BIGINT NOT NULL,
    CONSTRAINT workspace_heads_pkey PRIMARY KEY (workspace_id)
);

-- Custom roles.
CREATE TABLE roles (
    id TEXT COLLATE "C" NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    name TEXT COLLATE "C" NOT NULL,
    permissions JSONB NOT NULL,
    revision BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT roles_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX roles_name ON roles (workspace_id, name);

-- API keys: found by their public part, proven by the hash of their secret.
CREATE TABLE api_keys (
    id TEXT COLLATE "C" NOT NULL,
    public_id TEXT COLLATE "C" NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    name TEXT COLLATE "C" NOT NULL,
    secret_hash BYTEA NOT NULL,
    last4 TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C",
    role_id TEXT COLLATE "C" REFERENCES roles (id),
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CHECK (role IN ('owner', 'admin', 'builder', 'viewer')),
    CHECK ((role IS NULL) <> (role_id IS NULL))
);
CREATE UNIQUE INDEX api_keys_public_id ON api_keys (public_id);
CREATE INDEX api_keys_workspace ON api_keys (workspace_id, id);
CREATE INDEX api_keys_role ON api_keys (role_id);

-- What was answered to a request with an Idempotency-Key, written in the transaction of its effect. `body_hash` tells the same request from another.
CREATE TABLE idempotency_keys (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    route TEXT COLLATE "C" NOT NULL,
    idempotency_key TEXT COLLATE "C" NOT NULL,
    body_hash BYTEA NOT NULL,
    status BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (workspace_id, route, idempotency_key)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- Secrets, sealed; the plain text is nowhere. `purpose` names the column that refers to it.
CREATE TABLE secrets (
    id TEXT COLLATE "C" NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    purpose TEXT COLLATE "C" NOT NULL,
    ciphertext BYTEA NOT NULL,
    last4 TEXT COLLATE "C" NOT NULL,
    set_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT secrets_pkey PRIMARY KEY (id)
);
CREATE INDEX secrets_workspace ON secrets (workspace_id, id);

-- Agents. `content` is what people edit: the draft and its variants, in order.
CREATE TABLE agents (
    id TEXT COLLATE "C" NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    name TEXT COLLATE "C" NOT NULL,
    name_search TEXT COLLATE "C" NOT NULL,
    content JSONB NOT NULL,
    revision BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    deleted_at TIMESTAMPTZ,
    CONSTRAINT agents_pkey PRIMARY KEY (id)
);
CREATE INDEX agents_workspace ON agents (workspace_id, id);

-- Versions: a draft and its variants, frozen by publishing. Never changed.
CREATE TABLE versions (
    id TEXT COLLATE "C" NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL REFERENCES agents (id),
    version BIGINT NOT NULL,
    content JSONB NOT NULL,
    note TEXT COLLATE "C",
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    CONSTRAINT versions_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX versions_version ON versions (agent_id, version);

-- Which version each environment runs.
CREATE TABLE running (
    agent_id TEXT COLLATE "C" NOT NULL REFERENCES agents (id),
    environment TEXT COLLATE "C" NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL,
    version_id TEXT COLLATE "C" NOT NULL REFERENCES versions (id),
    deployment_id TEXT COLLATE "C" NOT NULL,
    CONSTRAINT running_pkey PRIMARY KEY (agent_id, environment),
    CHECK (environment IN ('sandbox', 'pre_release', 'live'))
);

-- Every time a version was put into an environment.
CREATE TABLE deployments (
    id TEXT COLLATE "C" NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL REFERENCES agents (id),
    environment TEXT COLLATE "C" NOT NULL,
    version_id TEXT COLLATE "C" NOT NULL REFERENCES versions (id),
    version BIGINT NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    deployed_at TIMESTAMPTZ NOT NULL,
    deployed_by TEXT COLLATE "C" NOT NULL,
    CONSTRAINT deployments_pkey PRIMARY KEY (id),
    CHECK (environment IN ('sandbox', 'pre_release', 'live')),
    CHECK (action IN ('publish', 'promote', 'rollback'))
);
CREATE INDEX deployments_agent ON deployments (agent_id, id);

-- Numbers. Owned once per ingress among those that are, or may be, ours at the carrier.
CREATE TABLE numbers (
    id TEXT COLLATE "C" NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    ingress BIGINT NOT NULL,
    phone_number TEXT COLLATE "C" NOT NULL,
    country TEXT COLLATE "C",
    number_type TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    status_reason TEXT COLLATE "C",
    label TEXT COLLATE "C",
    label_search TEXT COLLATE "C",
    tags JSONB NOT NULL,
    voice BOOLEAN NOT NULL,
    sms BOOLEAN NOT NULL,
    mms BOOLEAN NOT NULL,
    locality TEXT COLLATE "C",
    region TEXT COLLATE "C",
    monthly_minor BIGINT NOT NULL,
    setup_minor BIGINT NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    carrier_number_id TEXT COLLATE "C",
    callback_token TEXT COLLATE "C" NOT NULL,
    purchase_id TEXT COLLATE "C",
    agent_id TEXT COLLATE "C" REFERENCES agents (id),
    environment TEXT COLLATE "C",
    variant_id TEXT COLLATE "C",
    release_lock BOOLEAN NOT NULL,
    settings JSONB,
    release_requested_at TIMESTAMPTZ,
    release_at TIMESTAMPTZ,
    revision BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT numbers_pkey PRIMARY KEY (id),
    CHECK (number_type IN ('local', 'toll_free', 'mobile', 'national')),
    CHECK (source IN ('store')),
    CHECK (status IN ('ordering', 'active', 'failed', 'needs_review', 'release_scheduled', 'releasing', 'released')),
    CHECK (environment IN ('sandbox', 'pre_release', 'live')),
    CHECK ((agent_id IS NULL) = (environment IS NULL)),
    CHECK (variant_id IS NULL OR agent_id IS NOT NULL),
    CHECK ((status IN ('release_scheduled', 'releasing')) = (release_at IS NOT NULL))
);
CREATE UNIQUE INDEX numbers_owner ON numbers (ingress, phone_number) WHERE status NOT IN ('failed', 'released');
CREATE UNIQUE INDEX numbers_callback_token ON numbers (callback_token);
CREATE INDEX numbers_workspace ON numbers (workspace_id, id);
CREATE INDEX numbers_phone_number ON numbers (workspace_id, phone_number);
CREATE INDEX numbers_agent ON numbers (agent_id, environment, id);
CREATE INDEX numbers_release ON numbers (release_at) WHERE release_at IS NOT NULL;

-- Purchases: the durable intent to buy one exact number. `progress` is the state machine's own; `state` and `wake_at` repeat it for queries.
-- `fence` grows with each lease, so that a worker that lost its lease changes nothing. `restored`: found in a backup, so that what it knows may be old.
CREATE TABLE purchases (
    id TEXT COLLATE "C" NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    number_id TEXT COLLATE "C" NOT NULL REFERENCES numbers (id),
    ingress BIGINT NOT NULL,
    phone_number TEXT COLLATE "C" NOT NULL,
    monthly_minor BIGINT NOT NULL,
    setup_minor BIGINT NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    progress JSONB NOT NULL,
    wake_at TIMESTAMPTZ,
    budget_day TEXT COLLATE "C" NOT NULL,
    lease_holder TEXT COLLATE "C",
    lease_until TIMESTAMPTZ,
    fence BIGINT NOT NULL,
    restored BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT purchases_pkey PRIMARY KEY (id),
    CHECK (state IN ('requested', 'posting', 'ambiguous', 'confirmed', 'active', 'failed', 'needs_review'))
);
CREATE UNIQUE INDEX purchases_number ON purchases (number_id);
CREATE INDEX purchases_due ON purchases (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX purchases_budget ON purchases (workspace_id, budget_day);

-- Calls, by the carrier's id of the call. Those that belong to no number of ours have no workspace.
CREATE TABLE calls (
    id TEXT COLLATE "C" NOT NULL,
    workspace_id TEXT COLLATE "C" REFERENCES workspaces (id),
    number_id TEXT COLLATE "C",
    ingress BIGINT NOT NULL,
    carrier_call_id TEXT COLLATE "C" NOT NULL,
    direction TEXT COLLATE "C" NOT NULL,
    from_text TEXT COLLATE "C" NOT NULL,
    to_text TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C",
    environment TEXT COLLATE "C",
    variant_id TEXT COLLATE "C",
    version_id TEXT COLLATE "C",
    status TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C",
    decision JSONB,
    started_at TIMESTAMPTZ NOT NULL,
    answered_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    duration_s BIGINT,
    timeline_count BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT calls_pkey PRIMARY KEY (id),
    CHECK (direction IN ('inbound')),
    CHECK (environment IN ('sandbox', 'pre_release', 'live')),
    CHECK (status IN ('queued', 'ringing', 'in_progress', 'completed', 'busy', 'failed', 'no_answer', 'canceled')),
    CHECK (outcome IN ('answered', 'fell_back', 'announced', 'rejected', 'abandoned', 'unanswered'))
);
CREATE UNIQUE INDEX calls_carrier_call_id ON calls (ingress, carrier_call_id);
CREATE INDEX calls_workspace ON calls (workspace_id, id);
CREATE INDEX calls_number ON calls (number_id, id);
CREATE INDEX calls_agent ON calls (agent_id, id);

-- What happened in a call, each report once.
CREATE TABLE call_events (
    call_id TEXT COLLATE "C" NOT NULL REFERENCES calls (id),
    seq BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    dedupe_key TEXT COLLATE "C" NOT NULL,
    detail JSONB NOT NULL,
    CONSTRAINT call_events_pkey PRIMARY KEY (call_id, seq)
);
CREATE UNIQUE INDEX call_events_dedupe_key ON call_events (call_id, dedupe_key);

-- Events in each workspace's commit order: the feed, and later what is sent out.
CREATE TABLE events (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    seq BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    data JSONB NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (workspace_id, seq)
);
CREATE UNIQUE INDEX events_id ON events (id);
CREATE INDEX events_at ON events (at);

-- Who did what: each row's hash covers the row before. `before` and `after` are text, since a hash needs every byte.
CREATE TABLE audit (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    seq BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    before TEXT COLLATE "C",
    after TEXT COLLATE "C",
    request_id TEXT COLLATE "C",
    hash TEXT COLLATE "C" NOT NULL,
    CONSTRAINT audit_pkey PRIMARY KEY (workspace_id, seq)
);
CREATE UNIQUE INDEX audit_id ON audit (id);
CREATE INDEX audit_target ON audit (workspace_id, target, seq);

-- Who does what only one node may do. `fence` grows with each holder.
CREATE TABLE leases (
    name TEXT COLLATE "C" NOT NULL,
    holder TEXT COLLATE "C" NOT NULL,
    until TIMESTAMPTZ NOT NULL,
    fence BIGINT NOT NULL,
    CONSTRAINT leases_pkey PRIMARY KEY (name)
);

-- Findings: where the carrier's list of numbers and ours differ, with how often a listing showed it.
CREATE TABLE findings (
    ingress BIGINT NOT NULL,
    phone_number TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    number_id TEXT COLLATE "C",
    workspace_id TEXT COLLATE "C",
    carrier_number_id TEXT COLLATE "C",
    detail TEXT COLLATE "C" NOT NULL,
    first_seen_at TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    counted_at TIMESTAMPTZ NOT NULL,
    seen BIGINT NOT NULL,
    reported_at TIMESTAMPTZ,
    CONSTRAINT findings_pkey PRIMARY KEY (ingress, phone_number, kind),
    CHECK (kind IN ('orphan', 'ghost', 'drifted'))
);

INSERT INTO route_state (id, version) VALUES (1, 0);
