-- What all migrations add up to, on both engines; made by the test `the_schema_is_schema_sql`.
-- Types are PostgreSQL's in our words (value.rs says what SQLite makes of them).
INDEX agents_workspace (workspace_id, id)
INDEX api_keys_role (role_id)
INDEX api_keys_workspace (workspace_id, id)
INDEX audit_target (workspace_id, target, seq)
INDEX calls_agent (agent_id, started_at, id)
INDEX calls_number (number_id, started_at, id)
INDEX calls_started_at (started_at)
INDEX calls_workspace (workspace_id, started_at, id)
INDEX deployments_agent (agent_id, id)
INDEX events_at (at)
INDEX idempotency_keys_expiry (expires_at)
INDEX numbers_agent (agent_id, environment, id)
INDEX numbers_phone_number (workspace_id, phone_number)
INDEX numbers_release (release_at) PARTIAL
INDEX numbers_workspace (workspace_id, id)
INDEX purchases_budget (workspace_id, budget_day)
INDEX purchases_due (wake_at) PARTIAL
INDEX secrets_workspace (workspace_id, id)
UNIQUE agents_pkey (id)
UNIQUE api_keys_pkey (id)
UNIQUE api_keys_public_id (public_id)
UNIQUE audit_id (id)
UNIQUE audit_pkey (workspace_id, seq)
UNIQUE call_events_dedupe_key (call_id, dedupe_key)
UNIQUE call_events_pkey (call_id, seq)
UNIQUE calls_carrier_call_id (ingress, carrier_call_id)
UNIQUE calls_pkey (id)
UNIQUE deployments_pkey (id)
UNIQUE events_id (id)
UNIQUE events_pkey (workspace_id, seq)
UNIQUE findings_pkey (ingress, phone_number, kind)
UNIQUE idempotency_keys_pkey (workspace_id, route, idempotency_key)
UNIQUE leases_pkey (name)
UNIQUE meta_pkey (name)
UNIQUE numbers_callback_token (callback_token)
UNIQUE numbers_owner (ingress, phone_number) PARTIAL
UNIQUE numbers_pkey (id)
UNIQUE purchases_number (number_id)
UNIQUE purchases_pkey (id)
UNIQUE roles_name (workspace_id, name)
UNIQUE roles_pkey (id)
UNIQUE route_changes_pkey (version, kind, id)
UNIQUE route_state_pkey (id)
UNIQUE running_pkey (agent_id, environment)
UNIQUE secrets_pkey (id)
UNIQUE versions_pkey (id)
UNIQUE versions_version (agent_id, version)
UNIQUE workspace_heads_pkey (workspace_id)
UNIQUE workspaces_name (name)
UNIQUE workspaces_pkey (id)
agents.content JSON NOT NULL
agents.created_at TIME NOT NULL
agents.deleted_at TIME
agents.id TEXT NOT NULL
agents.name TEXT NOT NULL
agents.name_search TEXT NOT NULL
agents.revision INTEGER NOT NULL
agents.updated_at TIME NOT NULL
agents.workspace_id TEXT NOT NULL
api_keys.created_at TIME NOT NULL
api_keys.created_by TEXT NOT NULL
api_keys.expires_at TIME
api_keys.id TEXT NOT NULL
api_keys.last4 TEXT NOT NULL
api_keys.last_used_at TIME
api_keys.name TEXT NOT NULL
api_keys.public_id TEXT NOT NULL
api_keys.revoked_at TIME
api_keys.role TEXT
api_keys.role_id TEXT
api_keys.secret_hash BYTES NOT NULL
api_keys.workspace_id TEXT NOT NULL
audit.action TEXT NOT NULL
audit.actor TEXT NOT NULL
audit.after TEXT
audit.at TIME NOT NULL
audit.before TEXT
audit.hash TEXT NOT NULL
audit.id TEXT NOT NULL
audit.request_id TEXT
audit.seq INTEGER NOT NULL
audit.target TEXT NOT NULL
audit.workspace_id TEXT NOT NULL
call_events.at TIME NOT NULL
call_events.call_id TEXT NOT NULL
call_events.dedupe_key TEXT NOT NULL
call_events.detail JSON NOT NULL
call_events.kind TEXT NOT NULL
call_events.seq INTEGER NOT NULL
calls.agent_id TEXT
calls.answered_at TIME
calls.carrier_call_id TEXT NOT NULL
calls.decision JSON
calls.direction TEXT NOT NULL
calls.duration_s INTEGER
calls.ended_at TIME
calls.environment TEXT
calls.from_text TEXT NOT NULL
calls.id TEXT NOT NULL
calls.ingress INTEGER NOT NULL
calls.number_id TEXT
calls.outcome TEXT
calls.started_at TIME NOT NULL
calls.status TEXT NOT NULL
calls.timeline_count INTEGER NOT NULL
calls.to_text TEXT NOT NULL
calls.updated_at TIME NOT NULL
calls.variant_id TEXT
calls.version_id TEXT
calls.workspace_id TEXT
deployments.action TEXT NOT NULL
deployments.agent_id TEXT NOT NULL
deployments.deployed_at TIME NOT NULL
deployments.deployed_by TEXT NOT NULL
deployments.environment TEXT NOT NULL
deployments.id TEXT NOT NULL
deployments.version INTEGER NOT NULL
deployments.version_id TEXT NOT NULL
deployments.workspace_id TEXT NOT NULL
events.at TIME NOT NULL
events.data JSON NOT NULL
events.id TEXT NOT NULL
events.kind TEXT NOT NULL
events.seq INTEGER NOT NULL
events.subject TEXT NOT NULL
events.workspace_id TEXT NOT NULL
findings.carrier_number_id TEXT
findings.counted_at TIME NOT NULL
findings.detail TEXT NOT NULL
findings.first_seen_at TIME NOT NULL
findings.ingress INTEGER NOT NULL
findings.kind TEXT NOT NULL
findings.last_seen_at TIME NOT NULL
findings.number_id TEXT
findings.phone_number TEXT NOT NULL
findings.reported_at TIME
findings.seen INTEGER NOT NULL
findings.workspace_id TEXT
idempotency_keys.body TEXT NOT NULL
idempotency_keys.body_hash BYTES NOT NULL
idempotency_keys.created_at TIME NOT NULL
idempotency_keys.expires_at TIME NOT NULL
idempotency_keys.idempotency_key TEXT NOT NULL
idempotency_keys.route TEXT NOT NULL
idempotency_keys.status INTEGER NOT NULL
idempotency_keys.workspace_id TEXT NOT NULL
leases.fence INTEGER NOT NULL
leases.holder TEXT NOT NULL
leases.name TEXT NOT NULL
leases.until TIME NOT NULL
meta.name TEXT NOT NULL
meta.value TEXT NOT NULL
numbers.agent_id TEXT
numbers.callback_token TEXT NOT NULL
numbers.carrier_number_id TEXT
numbers.country TEXT
numbers.created_at TIME NOT NULL
numbers.currency TEXT NOT NULL
numbers.environment TEXT
numbers.id TEXT NOT NULL
numbers.ingress INTEGER NOT NULL
numbers.label TEXT
numbers.label_search TEXT
numbers.locality TEXT
numbers.mms BOOLEAN NOT NULL
numbers.monthly_minor INTEGER NOT NULL
numbers.number_type TEXT NOT NULL
numbers.phone_number TEXT NOT NULL
numbers.purchase_id TEXT
numbers.region TEXT
numbers.release_at TIME
numbers.release_lock BOOLEAN NOT NULL
numbers.release_requested_at TIME
numbers.revision INTEGER NOT NULL
numbers.settings JSON
numbers.setup_minor INTEGER NOT NULL
numbers.sms BOOLEAN NOT NULL
numbers.source TEXT NOT NULL
numbers.status TEXT NOT NULL
numbers.status_reason TEXT
numbers.tags JSON NOT NULL
numbers.updated_at TIME NOT NULL
numbers.variant_id TEXT
numbers.voice BOOLEAN NOT NULL
numbers.workspace_id TEXT NOT NULL
purchases.budget_day TEXT NOT NULL
purchases.created_at TIME NOT NULL
purchases.currency TEXT NOT NULL
purchases.fence INTEGER NOT NULL
purchases.id TEXT NOT NULL
purchases.ingress INTEGER NOT NULL
purchases.lease_holder TEXT
purchases.lease_until TIME
purchases.monthly_minor INTEGER NOT NULL
purchases.number_id TEXT NOT NULL
purchases.phone_number TEXT NOT NULL
purchases.progress JSON NOT NULL
purchases.restored BOOLEAN NOT NULL
purchases.setup_minor INTEGER NOT NULL
purchases.state TEXT NOT NULL
purchases.updated_at TIME NOT NULL
purchases.wake_at TIME
purchases.workspace_id TEXT NOT NULL
roles.created_at TIME NOT NULL
roles.id TEXT NOT NULL
roles.name TEXT NOT NULL
roles.permissions JSON NOT NULL
roles.revision INTEGER NOT NULL
roles.updated_at TIME NOT NULL
roles.workspace_id TEXT NOT NULL
route_changes.id TEXT NOT NULL
route_changes.kind TEXT NOT NULL
route_changes.version INTEGER NOT NULL
route_state.id INTEGER NOT NULL
route_state.version INTEGER NOT NULL
running.agent_id TEXT NOT NULL
running.deployment_id TEXT NOT NULL
running.environment TEXT NOT NULL
running.version_id TEXT NOT NULL
running.workspace_id TEXT NOT NULL
secrets.ciphertext BYTES NOT NULL
secrets.id TEXT NOT NULL
secrets.last4 TEXT NOT NULL
secrets.purpose TEXT NOT NULL
secrets.set_at TIME NOT NULL
secrets.workspace_id TEXT NOT NULL
versions.agent_id TEXT NOT NULL
versions.content JSON NOT NULL
versions.created_at TIME NOT NULL
versions.created_by TEXT NOT NULL
versions.id TEXT NOT NULL
versions.note TEXT
versions.version INTEGER NOT NULL
versions.workspace_id TEXT NOT NULL
workspace_heads.audit_hash TEXT NOT NULL
workspace_heads.audit_seq INTEGER NOT NULL
workspace_heads.event_seq INTEGER NOT NULL
workspace_heads.workspace_id TEXT NOT NULL
workspaces.created_at TIME NOT NULL
workspaces.id TEXT NOT NULL
workspaces.name TEXT NOT NULL
workspaces.revision INTEGER NOT NULL
workspaces.settings JSON NOT NULL
workspaces.updated_at TIME NOT NULL
