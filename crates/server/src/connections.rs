//! Takes HTTP connections: so many at once, each only for as long as its client goes on sending requests and taking answers. The
//! program and the simulated carrier listen through it. Some places are reserved for what must not wait ([`Seat`]).
//!
//! What is asked over a connection, and how long an answer may take, is the business of whoever serves the requests.

mod patient;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use self::patient::Patient;
use crate::config::Network;

/// How long to wait when no connection can be accepted: out of descriptors, most likely, so others must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The longest that a client on a reserved place may take to send a request's headers: who has something urgent to say says it.
const RESERVED_HEADERS_LIMIT: Duration = Duration::from_secs(5);

/// Who may connect, and for how long.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How many connections are open at once; further ones wait.
    pub connections_max: usize,
    /// How many of these places are reserved; never more than half of them.
    pub reserved: usize,
    /// How many of them one address may have, unless it is one of `proxies`. None at all: only proxies may connect.
    pub per_address_max: usize,
    /// Who may have as many as there are: this machine, and these.
    pub proxies: Vec<Network>,
    /// How long a client may take to send a request's headers, and may leave a connection idle.
    pub headers_limit: Duration,
    /// How long a client may take nothing of what is written to it.
    pub write_limit: Duration,
    /// How long requests under way may still take once it is to stop.
    pub drain_limit: Duration,
}

impl Rules {
    /// How many places are there for anything.
    fn ordinary_max(&self) -> usize {
        self.connections_max - self.reserved.min(self.connections_max / 2)
    }

    /// How many connections an address may have.
    fn most_of(&self, address: IpAddr) -> usize {
        let address = address.to_canonical();
        let is_proxy = address.is_loopback() || self.proxies.iter().any(|proxy| proxy.contains(address));
        if is_proxy { self.connections_max } else { self.per_address_max }
    }
}

/// The place of a connection. Once all places but the reserved ones are taken, a new connection gets one of those, and whoever serves
/// it answers only what must not wait.
#[derive(Clone, Debug)]
pub struct Seat(Arc<Mutex<Standing>>);

#[derive(Debug)]
struct Standing {
    ordinary: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Seat {
    fn take(ordinary: &Arc<Semaphore>) -> Seat {
        let seat = Seat(Arc::new(Mutex::new(Standing { ordinary: ordinary.clone(), taken: None })));
        let _ = seat.is_ordinary();
        seat
    }

    /// Whether anything may be asked from it: also from one that was reserved, once another place is free.
    pub fn is_ordinary(&self) -> bool {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.taken.is_none() {
            standing.taken = standing.ordinary.clone().try_acquire_owned().ok();
        }
        standing.taken.is_some()
    }
}

/// How many connections each address has.
#[derive(Debug, Default)]
struct Guests(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address, until it is dropped.
struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Guests {
    /// One more connection, unless the address has as many as it may.
    fn enter(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Guest> {
        let address = address.to_canonical();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&address).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        counts.insert(address, count + 1);
        Some(Guest { guests: self.clone(), address })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Takes connections until `stop`, and serves them as tasks of the tracker. An error of `serve` drops the connection.
pub async fn accept<S, F, B, E>(
    listener: TcpListener,
    rules: Rules,
    stop: CancellationToken,
    tracker: TaskTracker,
    serve: S,
) where
    S: Fn(SocketAddr, Seat, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let rules = Arc::new(rules);
    let (places, guests) = (Arc::new(Semaphore::new(rules.connections_max)), Arc::new(Guests::default()));
    let ordinary = Arc::new(Semaphore::new(rules.ordinary_max()));
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place.expect("the semaphore is never closed"),
            () = stop.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Whoever has enough is not answered: an answer would cost more than the connection.
                let Some(guest) = guests.enter(peer.ip(), rules.most_of(peer.ip())) else { continue };
                let (rules, stop, serve) = (rules.clone(), stop.clone(), serve.clone());
                let seat = Seat::take(&ordinary);
                tracker.spawn(async move {
                    connection(stream, peer, &seat, &rules, &stop, serve).await;
                    drop((place, seat, guest));
                });
            }
            Err(error) => {
                warn!("a connection cannot be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<S, F, B, E>(
    stream: TcpStream,
    peer: SocketAddr,
    seat: &Seat,
    rules: &Rules,
    stop: &CancellationToken,
    serve: S,
) where
    S: Fn(SocketAddr, Seat, Request<Incoming>) -> F,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Small answers must not wait for a full packet.
    let _ = stream.set_nodelay(true);
    let headers_limit = if seat.is_ordinary() {
        rules.headers_limit
    } else {
        rules.headers_limit.min(RESERVED_HEADERS_LIMIT)
    };
    let stream = Patient::new(stream, rules.write_limit);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(headers_limit)
        .serve_connection(TokioIo::new(stream), service_fn(|request| serve(peer, seat.clone(), request)));
    tokio::pin!(connection);
    tokio::select! {
        // An error is a client that left, or a connection that is dropped on purpose.
        _ = &mut connection => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(rules.drain_limit, connection).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_have_few_connections_and_proxies_as_many_as_there_are() {
        let mut rules = Rules {
            connections_max: 100,
            reserved: 10,
            per_address_max: 2,
            proxies: vec!["10.0.0.0/8".parse().unwrap()],
            headers_limit: Duration::from_secs(1),
            write_limit: Duration::from_secs(1),
            drain_limit: Duration::from_secs(1),
        };
        assert_eq!(rules.ordinary_max(), 90);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (address, most) in
            [("127.0.0.1", 100), ("::1", 100), ("10.1.2.3", 100), ("::ffff:10.1.2.3", 100), ("192.0.2.1", 2)]
        {
            assert_eq!(rules.most_of(ip(address)), most, "{address}");
        }
        let guests = Arc::new(Guests::default());
        let enter = |address: &str, rules: &Rules| guests.enter(ip(address), rules.most_of(ip(address)));
        let first = enter("192.0.2.1", &rules);
        let second = enter("192.0.2.1", &rules);
        assert!(first.is_some() && second.is_some() && enter("::ffff:192.0.2.1", &rules).is_none());
        assert!(enter("192.0.2.2", &rules).is_some());
        drop(first);
        assert!(enter("192.0.2.1", &rules).is_some());
        // Where a proxy must end TLS, nobody comes past it.
        rules.per_address_max = 0;
        assert!(enter("192.0.2.3", &rules).is_none() && enter("10.0.0.1", &rules).is_some());
        drop(second);
        assert!(guests.0.lock().unwrap().is_empty(), "nobody is remembered who has left");
    }
}
