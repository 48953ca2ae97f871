//! `switchboard serve`: opens everything in order, listens, and on SIGTERM lets go in the reverse order without dropping a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::{App, Random, Shared};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::{api, background, callbacks, logs};

/// Serves until it is told to stop.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    logs::start(&config.log)?;
    let app = App::open(config, Arc::new(SystemClock::new()), Random::from_system()).await?;
    let listener = listen(app.config.listen).await?;
    let address = listener.local_addr().context("failed to ask for our own address")?;
    info!(address = %address, "serving the API on http://{address}, its reference on http://{address}/docs");
    let stop = CancellationToken::new();
    app.tasks.spawn("wait_for_signal", wait_for_signal(stop.clone()));
    run(app, listener, stop).await
}

/// Listens at an address of the settings.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("failed to listen on {address}; is another program, or another Switchboard, there already?")
    })
}

/// Serves on a listener until `stop`, then drains.
pub async fn run(app: Shared, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let patience = Duration::from_millis(app.config.drain_timeout_ms);
    background::start(&app).await;
    let (refused, told) = (app.key_is_wrong.clone(), stop.clone());
    app.tasks.spawn("stop_on_wrong_key", async move {
        tokio::select! {
            () = refused.cancelled() => told.cancel(),
            () = told.cancelled() => {}
        }
    });
    let router = router(&app);
    let stopping = stop.clone();
    let served = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move { stopping.cancelled().await })
        .into_future();
    let mut served = std::pin::pin!(served);
    let outcome = tokio::select! {
        outcome = &mut served => outcome,
        () = async { stop.cancelled().await; tokio::time::sleep(patience).await } => {
            warn!("requests were still under way after {} ms and are dropped", patience.as_millis());
            Ok(())
        }
    };
    if !app.tasks.stop(patience).await {
        warn!(
            "background tasks were still running after {} ms; they go on where they were at the next start",
            patience.as_millis()
        );
    }
    app.database.close().await;
    info!("stopped");
    anyhow::ensure!(
        !app.key_is_wrong.is_cancelled(),
        "the encryption key is not the database's key; see the log for both fingerprints"
    );
    outcome.context("failed to serve")
}

/// Every address of the program.
pub fn router(app: &Shared) -> Router {
    // Callbacks stand beside the API's rate limits and keys; what every answer has, theirs have too. Their own time-outs are shorter.
    let callbacks = callbacks::router(app)
        .method_not_allowed_fallback(api::router::no_such_method)
        .layer(from_fn_with_state(app.clone(), api::answer));
    api::router(app).merge(callbacks)
}

/// Ends with SIGTERM or an interrupt from the keyboard.
pub async fn wait_for_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        warn!("signals cannot be received here; the program ends only when it is killed");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: no new requests; those under way are finished"),
        _ = interrupt.recv() => info!("interrupted: no new requests; those under way are finished"),
        () = stop.cancelled() => {}
    }
    stop.cancel();
}
