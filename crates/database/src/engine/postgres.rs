//! PostgreSQL: a few threads, each with a connection and its prepared statements, all serving one queue.
//!
//! Each thread drives tokio-postgres on a small runtime of its own. The synchronous client would do
//! the same, but cannot give up on a server that is frozen rather than gone; here every answer has a
//! deadline, after which the connection is thrown away and the caller is told.
//!
//! A transaction that lost a race (40001, 40P01) is run again. A connection found dead is replaced
//! before anything has run on it. While no thread has a connection, callers are refused at once.

mod listen;
mod session;
mod worker;

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;

pub(crate) use self::session::Session;
pub(super) use self::worker::start;
use super::tls::{self, Tls};
use super::{DEADLINE_BULK, Settings};
use crate::error::{DbError, constraint_named};
use crate::migrations;

/// How long a connection may take to be made.
const CONNECT_WAIT: Duration = Duration::from_secs(3);

/// The pause before the first attempt to connect again; it doubles up to [`BACKOFF_MOST`].
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// The longest pause between two attempts to connect.
const BACKOFF_MOST: Duration = Duration::from_secs(1);

/// Where the server is and how to reach it.
#[derive(Clone)]
pub(super) struct Server {
    config: Config,
    tls: Tls,
    shown: String,
}

impl Server {
    pub(super) fn parse(url: &str, settings: &Settings) -> Result<Server, DbError> {
        let (url, tls) = tls::split(url)?;
        let mut config: Config = url
            .parse()
            // The address may hold a password, so the error says nothing of it.
            .map_err(|error: tokio_postgres::Error| DbError::Refused(format!("database_url: {error}")))?;
        config.ssl_mode(tls.mode);
        if config.get_application_name().is_none() {
            config.application_name("switchboard");
        }
        config.keepalives_idle(Duration::from_secs(15));
        Ok(Server { config, tls, shown: settings.address.shown() })
    }

    fn connect<'t>(&self, runtime: &'t Runtime) -> Result<Session<'t>, DbError> {
        let connecting = self.config.connect(self.tls.connector.clone());
        let (client, connection) = runtime
            .block_on(async { tokio::time::timeout(CONNECT_WAIT, connecting).await })
            .map_err(|_| DbError::Unavailable(format!("{} does not answer", self.shown)))?
            .map_err(|error| match said(&error) {
                DbError::Unavailable(why) => DbError::Unavailable(format!("{}: {why}", self.shown)),
                other => other,
            })?;
        let driver = runtime.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL has ended");
            }
        });
        Ok(Session::new(runtime, client, driver))
    }

    /// Brings the schema up to date, one node at a time.
    pub(super) fn migrate(&self) -> Result<(), DbError> {
        let runtime = runtime()?;
        let mut session = self.connect(&runtime)?;
        session.may_take(DEADLINE_BULK);
        // Let go of when this connection ends, whatever happens.
        session.batch(&format!("SELECT pg_advisory_lock({})", migrations::LOCK))?;
        let result = runtime.block_on(migrations::postgres(session.client_mut()));
        drop(session.batch(&format!("SELECT pg_advisory_unlock({})", migrations::LOCK)));
        result
    }
}

fn runtime() -> Result<Runtime, DbError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| DbError::Unavailable(format!("no runtime for the database: {error}")))
}

/// What PostgreSQL's error means for the caller.
pub(crate) fn said(error: &tokio_postgres::Error) -> DbError {
    let Some(server) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        // The client's own complaints about types are our mistakes; all else is the network.
        let ours = text.contains("serializing parameter") || text.contains("deserializing column");
        return if ours { DbError::Internal(text) } else { DbError::Unavailable(text) };
    };
    let text = server.message().to_owned();
    match *server.code() {
        SqlState::UNIQUE_VIOLATION => {
            DbError::Conflict(constraint_named(server.constraint().unwrap_or_default()))
        }
        SqlState::READ_ONLY_SQL_TRANSACTION => DbError::ReadOnly(text),
        SqlState::DISK_FULL => DbError::Full(text),
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => DbError::Corrupt(text),
        SqlState::QUERY_CANCELED => DbError::Unavailable("the query took too long".into()),
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => DbError::Unavailable(text),
        ref code => match &code.code()[..2] {
            // connection, resources, operator intervention, system error,
            // authorization, and a database that does not exist
            "08" | "53" | "57" | "58" | "28" | "3D" => DbError::Unavailable(text),
            _ => DbError::Internal(format!("{} ({})", text, code.code())),
        },
    }
}
