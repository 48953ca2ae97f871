//! `switchboard serve`: opens everything in order, listens, and on SIGTERM lets go in the reverse order without dropping a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::CONNECTION;
use axum::middleware::from_fn_with_state;
use domain::error::Code;
use hyper::Request;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::{info, warn};

use crate::api::error::Problem;
use crate::app::{App, Random, Shared};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::connections::{Rules, Seat};
use crate::{api, background, callbacks, connections, logs};

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
    let under_way = TaskTracker::new();
    let no_room = Router::new().fallback(no_room).layer(from_fn_with_state(app.clone(), api::answer));
    let serve = move |peer: SocketAddr, seat: Seat, request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let may_be_asked = is_urgent(request.uri().path()) || seat.is_ordinary();
        if may_be_asked { router.clone().oneshot(request) } else { no_room.clone().oneshot(request) }
    };
    connections::accept(listener, rules(&app.config), stop.clone(), under_way.clone(), serve).await;
    under_way.close();
    if tokio::time::timeout(patience, under_way.wait()).await.is_err() {
        warn!("requests were still under way after {} ms and are dropped", patience.as_millis());
    }
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
    Ok(())
}

/// What is answered also from a reserved place: calls must not wait for whoever else is connected, and whoever watches us is told.
fn is_urgent(path: &str) -> bool {
    path.starts_with("/callbacks/") || matches!(path, "/live" | "/ready")
}

/// Answers everything else from there.
async fn no_room() -> Problem {
    let detail =
        "all connections are taken but those kept for carriers' callbacks; close some, or try again later";
    Problem::new(Code::Overloaded, detail).retry_after(1).header(CONNECTION, "close")
}

/// Who may connect.
fn rules(config: &Config) -> Rules {
    // Without TLS of our own, only the proxy that ends it may come from outside.
    let only_proxies = !config.listen.ip().is_loopback() && !config.danger_listen_without_tls;
    Rules {
        connections_max: config.limits.connections.max(1),
        per_address_max: if only_proxies { 0 } else { config.limits.connections_per_address },
        proxies: config.trusted_proxies.clone(),
        reserved: config.limits.connections_reserved,
        headers_limit: Duration::from_millis(config.limits.headers_timeout_ms),
        write_limit: Duration::from_millis(config.limits.write_timeout_ms),
        drain_limit: Duration::from_millis(config.drain_timeout_ms),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_a_proxy_that_ends_tls_nobody_comes() {
        let rules = |settings: &str| rules(&toml::from_str(settings).expect("settings"));
        let behind = rules("listen = \"0.0.0.0:7600\"\ntrusted_proxies = [\"10.0.0.0/8\"]");
        assert_eq!((behind.per_address_max, behind.proxies.len()), (0, 1), "only the proxy and this machine");
        assert!(rules("").per_address_max > 0, "loopback is not reached from outside anyway");
        assert!(rules("listen = \"0.0.0.0:7600\"\ndanger_listen_without_tls = true").per_address_max > 0);
        assert!(is_urgent("/callbacks/twilio/t/voice") && is_urgent("/ready") && !is_urgent("/v1/events"));
    }
}
