//! Hints between nodes, by LISTEN and NOTIFY. They may be lost: whoever waits on them also looks by the clock.

use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_postgres::AsyncMessage;
use tracing::warn;

use super::worker::jittered;
use super::{BACKOFF_FIRST, BACKOFF_MOST, CONNECT_WAIT, Server, runtime, said};
use crate::engine::job::Queue;
use crate::error::DbError;

/// The channel on which nodes tell each other that something was committed.
const CHANNEL: &str = "switchboard";

/// Hears from other nodes, and tells them, on one connection that does nothing else.
///
/// The telling is its own small transaction after the commit: a `NOTIFY` inside would make all writers
/// queue for one lock. Several commits may share one telling.
pub(super) fn listen(server: &Server, queue: &Queue, changes: &watch::Sender<u64>, tell: &Notify) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return warn!(%error, "no notifications between nodes"),
    };
    let mut backoff = BACKOFF_FIRST;
    loop {
        let error = match runtime.block_on(listen_once(server, queue, changes, tell, &mut backoff)) {
            Ok(()) => return,
            Err(error) => error,
        };
        tracing::debug!(%error, "no notifications for now");
        if queue.closed_within(jittered(backoff)) {
            return;
        }
        backoff = (backoff * 2).min(BACKOFF_MOST);
    }
}

async fn listen_once(
    server: &Server,
    queue: &Queue,
    changes: &watch::Sender<u64>,
    tell: &Notify,
    backoff: &mut Duration,
) -> Result<(), DbError> {
    let gone = || DbError::Unavailable("the connection has ended".into());
    let slow = |_| DbError::Unavailable("PostgreSQL does not answer".into());
    let connecting = server.config.connect(server.tls.connector.clone());
    let (client, mut connection) =
        tokio::time::timeout(CONNECT_WAIT, connecting).await.map_err(slow)?.map_err(|error| said(&error))?;
    let hearing = async {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(_) = message.map_err(|error| said(&error))? {
                changes.send_modify(|count| *count += 1);
            }
        }
        Err(gone())
    };
    let telling = async {
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(|error| said(&error))?;
        *backoff = BACKOFF_FIRST;
        // Whatever was told while nobody listened.
        changes.send_modify(|count| *count += 1);
        let notify = format!("NOTIFY {CHANNEL}");
        loop {
            tell.notified().await;
            let told = client.batch_execute(&notify);
            tokio::time::timeout(CONNECT_WAIT, told).await.map_err(slow)?.map_err(|error| said(&error))?;
        }
    };
    tokio::select! {
        ended = hearing => ended,
        ended = telling => ended,
        () = queue.until_closed() => Ok(()),
    }
}
