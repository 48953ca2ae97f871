//! What can go wrong with the database, a variant for each thing that a caller may do about it.
//!
//! Lookups that find nothing are not errors: they return `Option`. What a caller shows to people is
//! decided in the server's error table, not here.

/// Why a read or a write did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DbError {
    /// Something else has this already; the value names the rule that was broken (see [`CONSTRAINTS`]).
    #[error("{0} is already taken")]
    Conflict(&'static str),
    /// The row has been changed since the caller read it. Read it again.
    #[error("the row has been changed since it was read")]
    StaleVersion,
    /// The database is down, hung or overloaded. Nothing is known to have been written, but where the
    /// answer to a commit was lost it may have been: ask again with the same idempotency key.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The database answers, and takes no writes: a standby, or set to read-only.
    #[error("the database is read-only: {0}")]
    ReadOnly(String),
    /// The disk or a quota is full. Reads go on.
    #[error("the database has no room left: {0}")]
    Full(String),
    /// What is stored cannot be what was written: stop and look.
    #[error("the database holds what cannot be true: {0}")]
    Corrupt(String),
    /// A newer Switchboard has migrated this database; this one must not touch it.
    #[error("the database has schema {found}, this program knows schemas up to {known}: run a newer one")]
    SchemaNewer {
        /// The newest migration that the database has seen.
        found: i32,
        /// The newest migration that this program holds.
        known: i32,
    },
    /// The encryption key is not the one that this database's secrets were sealed with.
    #[error("the database expects the encryption key {expected}, and this node has {found}")]
    WrongKey {
        /// The fingerprint recorded in the database.
        expected: String,
        /// The fingerprint of this node's key, or `no key`.
        found: String,
    },
    /// Refused before anything was tried, since it would do harm; the text says what to do instead.
    #[error("{0}")]
    Refused(String),
    /// Our own mistake.
    #[error("internal database error: {0}")]
    Internal(String),
}

/// Every unique rule: what SQLite calls it when it is broken, and its name on PostgreSQL and in
/// [`DbError::Conflict`]. A test compares this table with both schemas.
pub const CONSTRAINTS: &[(&str, &str)] = &[
    ("meta.name", "meta_pkey"),
    ("route_state.id", "route_state_pkey"),
    ("route_changes.version, route_changes.kind, route_changes.id", "route_changes_pkey"),
    ("workspaces.id", "workspaces_pkey"),
    ("workspaces.name", "workspaces_name"),
    ("workspace_heads.workspace_id", "workspace_heads_pkey"),
    ("roles.id", "roles_pkey"),
    ("roles.workspace_id, roles.name", "roles_name"),
    ("api_keys.id", "api_keys_pkey"),
    ("api_keys.public_id", "api_keys_public_id"),
    (
        "idempotency_keys.workspace_id, idempotency_keys.route, idempotency_keys.idempotency_key",
        "idempotency_keys_pkey",
    ),
    ("secrets.id", "secrets_pkey"),
    ("agents.id", "agents_pkey"),
    ("versions.id", "versions_pkey"),
    ("versions.agent_id, versions.version", "versions_version"),
    ("running.agent_id, running.environment", "running_pkey"),
    ("deployments.id", "deployments_pkey"),
    ("numbers.id", "numbers_pkey"),
    ("numbers.ingress, numbers.phone_number", "numbers_owner"),
    ("numbers.callback_token", "numbers_callback_token"),
    ("purchases.id", "purchases_pkey"),
    ("purchases.number_id", "purchases_number"),
    ("calls.id", "calls_pkey"),
    ("calls.ingress, calls.carrier_call_id", "calls_carrier_call_id"),
    ("call_events.call_id, call_events.seq", "call_events_pkey"),
    ("call_events.call_id, call_events.dedupe_key", "call_events_dedupe_key"),
    ("events.workspace_id, events.seq", "events_pkey"),
    ("events.id", "events_id"),
    ("audit.workspace_id, audit.seq", "audit_pkey"),
    ("audit.id", "audit_id"),
    ("leases.name", "leases_pkey"),
    ("findings.ingress, findings.phone_number, findings.kind", "findings_pkey"),
];

/// The name of a broken unique rule from what an engine says about it.
pub(crate) fn constraint_named(said: &str) -> &'static str {
    CONSTRAINTS
        .iter()
        .find(|(columns, name)| *name == said || said == format!("UNIQUE constraint failed: {columns}"))
        .map_or("unknown_constraint", |(_, name)| *name)
}
