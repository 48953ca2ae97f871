-- The first schema, for SQLite. Its twin is postgres.sql; schema.sql is what both must add up to.
-- Booleans are 0 or 1, times microseconds since 1970, JSON is text; money is in minor units.

-- One row a fact about the database itself: the encryption key's fingerprint, whether purchases are locked, the last reconcile.
CREATE TABLE meta (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name)
) STRICT, WITHOUT ROWID;

-- The one counter of everything that calls depend on. It is bumped last in a transaction, so its order is the order of commits.
CREATE TABLE route_state (
    id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    CHECK (id = 1)
) STRICT, WITHOUT ROWID;

-- What each version changed, so that a node rebuilds only that.
CREATE TABLE route_changes (
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (version, kind, id),
    CHECK (kind IN ('number', 'agent', 'workspace', 'secret'))
) STRICT, WITHOUT ROWID;

-- Tenants. Everything below belongs to exactly one.
CREATE TABLE workspaces (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    settings TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (id)
) STRICT;
CREATE UNIQUE INDEX workspaces_name ON workspaces (name);

-- The end of each workspace's audit chain and event feed. Whoever changes anything in a workspace locks this row first.
CREATE TABLE workspace_heads (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    audit_seq INTEGER NOT NULL,
    audit_hash TEXT NOT NULL,
    event_seq INTEGER NOT NULL,
    PRIMARY KEY (workspace_id)
) STRICT, WITHOUT ROWID;

-- Custom roles.
CREATE TABLE roles (
    id TEXT NOT NULL,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    name TEXT NOT NULL,
    permissions TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX roles_name ON roles (workspace_id, name);

-- API keys: found by their public part, proven by the hash of their secret.
CREATE TABLE api_keys (
    id TEXT NOT NULL,
    public_id TEXT NOT NULL,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    name TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    last4 TEXT NOT NULL,
    role TEXT,
    role_id TEXT REFERENCES roles (id),
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    last_used_at INTEGER,
    PRIMARY KEY (id),
    CHECK (role IN ('owner', 'admin', 'builder', 'viewer')),
    CHECK ((role IS NULL) <> (role_id IS NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX api_keys_public_id ON api_keys (public_id);
CREATE INDEX api_keys_workspace ON api_keys (workspace_id, id);
CREATE INDEX api_keys_role ON api_keys (role_id);

-- What was answered to a request with an Idempotency-Key, written in the transaction of its effect. `body_hash` tells the same request from another.
CREATE TABLE idempotency_keys (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    route TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    body_hash BLOB NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, route, idempotency_key)
) STRICT;
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- Secrets, sealed; the plain text is nowhere. `purpose` names the column that refers to it.
CREATE TABLE secrets (
    id TEXT NOT NULL,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    purpose TEXT NOT NULL,
    ciphertext BLOB NOT NULL,
    last4 TEXT NOT NULL,
    set_at INTEGER NOT NULL,
    PRIMARY KEY (id)
) STRICT;
CREATE INDEX secrets_workspace ON secrets (workspace_id, id);

-- Agents. `content` is what people edit: the draft and its variants, in order.
CREATE TABLE agents (
    id TEXT NOT NULL,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    name TEXT NOT NULL,
    name_search TEXT NOT NULL,
    content TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    PRIMARY KEY (id)
) STRICT;
CREATE INDEX agents_workspace ON agents (workspace_id, id);

-- Versions: a draft and its variants, frozen by publishing. Never changed.
CREATE TABLE versions (
    id TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    agent_id TEXT NOT NULL REFERENCES agents (id),
    version INTEGER NOT NULL,
    content TEXT NOT NULL,
    note TEXT,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (id)
) STRICT;
CREATE UNIQUE INDEX versions_version ON versions (agent_id, version);

-- Which version each environment runs.
CREATE TABLE running (
    agent_id TEXT NOT NULL REFERENCES agents (id),
    environment TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    version_id TEXT NOT NULL REFERENCES versions (id),
    deployment_id TEXT NOT NULL,
    PRIMARY KEY (agent_id, environment),
    CHECK (environment IN ('sandbox', 'pre_release', 'live'))
) STRICT, WITHOUT ROWID;

-- Every time a version was put into an environment.
CREATE TABLE deployments (
    id TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    agent_id TEXT NOT NULL REFERENCES agents (id),
    environment TEXT NOT NULL,
    version_id TEXT NOT NULL REFERENCES versions (id),
    version INTEGER NOT NULL,
    action TEXT NOT NULL,
    deployed_at INTEGER NOT NULL,
    deployed_by TEXT NOT NULL,
    PRIMARY KEY (id),
    CHECK (environment IN ('sandbox', 'pre_release', 'live')),
    CHECK (action IN ('publish', 'promote', 'rollback'))
) STRICT;
CREATE INDEX deployments_agent ON deployments (agent_id, id);

-- Numbers. Owned once per ingress among those that are, or may be, ours at the carrier.
CREATE TABLE numbers (
    id TEXT NOT NULL,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    ingress INTEGER NOT NULL,
    phone_number TEXT NOT NULL,
    country TEXT,
    number_type TEXT NOT NULL,
    source TEXT NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT,
    label TEXT,
    label_search TEXT,
    tags TEXT NOT NULL,
    voice INTEGER NOT NULL CHECK (voice IN (0, 1)),
    sms INTEGER NOT NULL CHECK (sms IN (0, 1)),
    mms INTEGER NOT NULL CHECK (mms IN (0, 1)),
    locality TEXT,
    region TEXT,
    monthly_minor INTEGER NOT NULL,
    setup_minor INTEGER NOT NULL,
    currency TEXT NOT NULL,
    carrier_number_id TEXT,
    callback_token TEXT NOT NULL,
    purchase_id TEXT,
    agent_id TEXT REFERENCES agents (id),
    environment TEXT,
    variant_id TEXT,
    release_lock INTEGER NOT NULL CHECK (release_lock IN (0, 1)),
    settings TEXT,
    release_requested_at INTEGER,
    release_at INTEGER,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    CHECK (number_type IN ('local', 'toll_free', 'mobile', 'national')),
    CHECK (source IN ('store')),
    CHECK (status IN ('ordering', 'active', 'failed', 'needs_review', 'release_scheduled', 'releasing', 'released')),
    CHECK (environment IN ('sandbox', 'pre_release', 'live')),
    CHECK ((agent_id IS NULL) = (environment IS NULL)),
    CHECK (variant_id IS NULL OR agent_id IS NOT NULL),
    CHECK ((status IN ('release_scheduled', 'releasing')) = (release_at IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX numbers_owner ON numbers (ingress, phone_number) WHERE status NOT IN ('failed', 'released');
CREATE UNIQUE INDEX numbers_callback_token ON numbers (callback_token);
CREATE INDEX numbers_workspace ON numbers (workspace_id, id);
CREATE INDEX numbers_phone_number ON numbers (workspace_id, phone_number);
CREATE INDEX numbers_agent ON numbers (agent_id, environment, id);
CREATE INDEX numbers_release ON numbers (release_at) WHERE release_at IS NOT NULL;

-- Purchases: the durable intent to buy one exact number. `progress` is the state machine's own; `state` and `wake_at` repeat it for queries.
-- `fence` grows with each lease, so that a worker that lost its lease changes nothing. `restored`: found in a backup, so that what it knows may be old.
CREATE TABLE purchases (
    id TEXT NOT NULL,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    number_id TEXT NOT NULL REFERENCES numbers (id),
    ingress INTEGER NOT NULL,
    phone_number TEXT NOT NULL,
    monthly_minor INTEGER NOT NULL,
    setup_minor INTEGER NOT NULL,
    currency TEXT NOT NULL,
    state TEXT NOT NULL,
    progress TEXT NOT NULL,
    wake_at INTEGER,
    budget_day TEXT NOT NULL,
    lease_holder TEXT,
    lease_until INTEGER,
    fence INTEGER NOT NULL,
    restored INTEGER NOT NULL CHECK (restored IN (0, 1)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    CHECK (state IN ('requested', 'posting', 'ambiguous', 'confirmed', 'active', 'failed', 'needs_review'))
) STRICT;
CREATE UNIQUE INDEX purchases_number ON purchases (number_id);
CREATE INDEX purchases_due ON purchases (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX purchases_budget ON purchases (workspace_id, budget_day);

-- Calls, by the carrier's id of the call. Those that belong to no number of ours have no workspace.
CREATE TABLE calls (
    id TEXT NOT NULL,
    workspace_id TEXT REFERENCES workspaces (id),
    number_id TEXT,
    ingress INTEGER NOT NULL,
    carrier_call_id TEXT NOT NULL,
    direction TEXT NOT NULL,
    from_text TEXT NOT NULL,
    to_text TEXT NOT NULL,
    agent_id TEXT,
    environment TEXT,
    variant_id TEXT,
    version_id TEXT,
    status TEXT NOT NULL,
    outcome TEXT,
    decision TEXT,
    started_at INTEGER NOT NULL,
    answered_at INTEGER,
    ended_at INTEGER,
    duration_s INTEGER,
    timeline_count INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    CHECK (direction IN ('inbound')),
    CHECK (environment IN ('sandbox', 'pre_release', 'live')),
    CHECK (status IN ('queued', 'ringing', 'in_progress', 'completed', 'busy', 'failed', 'no_answer', 'canceled')),
    CHECK (outcome IN ('answered', 'fell_back', 'announced', 'rejected', 'abandoned', 'unanswered'))
) STRICT;
CREATE UNIQUE INDEX calls_carrier_call_id ON calls (ingress, carrier_call_id);
CREATE INDEX calls_workspace ON calls (workspace_id, id);
CREATE INDEX calls_number ON calls (number_id, id);
CREATE INDEX calls_agent ON calls (agent_id, id);

-- What happened in a call, each report once.
CREATE TABLE call_events (
    call_id TEXT NOT NULL REFERENCES calls (id),
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    dedupe_key TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (call_id, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX call_events_dedupe_key ON call_events (call_id, dedupe_key);

-- Events in each workspace's commit order: the feed, and later what is sent out.
CREATE TABLE events (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    subject TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (workspace_id, seq)
) STRICT;
CREATE UNIQUE INDEX events_id ON events (id);
CREATE INDEX events_at ON events (at);

-- Who did what: each row's hash covers the row before. `before` and `after` are text, since a hash needs every byte.
CREATE TABLE audit (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    before TEXT,
    after TEXT,
    request_id TEXT,
    hash TEXT NOT NULL,
    PRIMARY KEY (workspace_id, seq)
) STRICT;
CREATE UNIQUE INDEX audit_id ON audit (id);
CREATE INDEX audit_target ON audit (workspace_id, target, seq);

-- Who does what only one node may do. `fence` grows with each holder.
CREATE TABLE leases (
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    until INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    PRIMARY KEY (name)
) STRICT, WITHOUT ROWID;

-- Findings: where the carrier's list of numbers and ours differ, with how often a listing showed it.
CREATE TABLE findings (
    ingress INTEGER NOT NULL,
    phone_number TEXT NOT NULL,
    kind TEXT NOT NULL,
    number_id TEXT,
    workspace_id TEXT,
    carrier_number_id TEXT,
    detail TEXT NOT NULL,
    first_seen_at INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    counted_at INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    reported_at INTEGER,
    PRIMARY KEY (ingress, phone_number, kind),
    CHECK (kind IN ('orphan', 'ghost', 'drifted'))
) STRICT, WITHOUT ROWID;

INSERT INTO route_state (id, version) VALUES (1, 0);
