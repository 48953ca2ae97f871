//! Where the data is, and how a database is opened.

use std::path::PathBuf;
use std::time::Duration;

#[cfg(doc)]
use crate::error::DbError;

/// How long a caller waits for an answer, unless told otherwise.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// How long loading a whole table may take.
pub const DEADLINE_BULK: Duration = Duration::from_secs(600);

/// Connections to PostgreSQL, each with its own thread, unless set otherwise.
pub const POSTGRES_CONNECTIONS: usize = 8;

/// Where the data is.
#[derive(Clone)]
pub enum Address {
    /// A file; it is created where it is missing.
    Sqlite(PathBuf),
    /// A `postgres://` address. It may hold a password, so it has no `Debug`.
    Postgres(String),
}

impl Address {
    /// What an operator may see of it: no password.
    pub fn shown(&self) -> String {
        match self {
            Address::Sqlite(path) => format!("sqlite {}", path.display()),
            Address::Postgres(url) => {
                let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
                format!("postgres {}", rest.split('?').next().unwrap_or_default())
            }
        }
    }
}

/// How a database is opened.
#[derive(Clone)]
pub struct Settings {
    /// Where the data is.
    pub address: Address,
    /// How long a caller waits for an answer.
    pub deadline: Duration,
    /// Threads, each with a connection of its own (PostgreSQL only).
    pub postgres_connections: usize,
    /// Keep SQLite on a network or shared file system, where its locks may not work (SQLite only).
    pub danger_allow_any_file_system: bool,
    /// Tell other nodes of changes, and hear from them, at once (PostgreSQL only). Without it they see
    /// them when they next look.
    pub notifications: bool,
    /// Open although the server is down; callers get [`DbError::Unavailable`] until it is back and its
    /// schema is up to date (PostgreSQL only).
    pub may_start_down: bool,
}

impl Settings {
    /// The usual settings.
    pub fn new(address: Address) -> Settings {
        Settings {
            address,
            deadline: DEADLINE,
            postgres_connections: POSTGRES_CONNECTIONS,
            danger_allow_any_file_system: false,
            notifications: true,
            may_start_down: false,
        }
    }
}
