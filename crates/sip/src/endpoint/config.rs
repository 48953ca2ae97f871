//! What an endpoint is told at its start: where it is reached, what it takes, how much of it.

use std::net::SocketAddr;

use crate::flow::Transport;
use crate::limits::{
    HELD_BYTES_MAX, SHED_AT, TRANSACTIONS_MAX, TRANSACTIONS_OF_STRANGERS_MAX, TRANSACTIONS_PER_SOURCE_MAX,
};
use crate::method::{Method, MethodSet};
use crate::transaction::Timers;

/// One address that we are reached at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// What it speaks.
    pub transport: Transport,
    /// The socket's address.
    pub local: SocketAddr,
    /// `host` or `host:port` as others should write it: in our Vias and Record-Routes.
    pub sent_by: String,
}

/// How many of each thing there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Transactions in all, those included that are answered and linger to know repetitions (64·T1 over UDP). Above it
    /// nothing new begins, and new calls are shed from nine tenths on.
    pub transactions: usize,
    /// Transactions that wait for a final response. From here on new calls are shed with a 503, so that those in
    /// progress find room; they are taken again as soon as some are answered.
    pub shed_at: usize,
    /// Server transactions that one unknown source may have.
    pub transactions_per_source: usize,
    /// Server transactions that all unknown sources together may have.
    pub transactions_of_strangers: usize,
    /// Bytes of messages that may be held. Above it nothing new begins, and new calls are shed from nine tenths on.
    pub held_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            transactions: TRANSACTIONS_MAX,
            shed_at: SHED_AT,
            transactions_per_source: TRANSACTIONS_PER_SOURCE_MAX,
            transactions_of_strangers: TRANSACTIONS_OF_STRANGERS_MAX,
            held_bytes: HELD_BYTES_MAX,
        }
    }
}

/// What an endpoint is told once, at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where we are reached; at least one. Nodes that share their keys list them in the same order: a response that
    /// comes to another node than its request leaves by the socket of that place.
    pub listeners: Vec<Listener>,
    /// Methods taken outside dialogs; others get 405, or 501 if they are none of [`Method`]'s.
    pub methods: MethodSet,
    /// Option tags that may stand in Proxy-Require; others get 420.
    pub proxy_extensions: Vec<String>,
    /// Option tags that may stand in Require when we answer ourselves. `None`: we only forward, and do not look.
    pub extensions: Option<Vec<String>>,
    /// Whether new calls are decided and forwarded without transactions: INVITE, CANCEL and ACK outside dialogs come
    /// as [`super::Event::Stateless`]. Fast, and for those who need no failover.
    pub keeps_no_state: bool,
    /// The Retry-After that a shed call is given.
    pub retry_after_s: u32,
    /// T1, T2 and T4.
    pub timers: Timers,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// The usual settings for these listeners: a proxy for calls.
    pub fn new(listeners: Vec<Listener>) -> Config {
        Config {
            listeners,
            methods: MethodSet::of(&[
                Method::Invite,
                Method::Ack,
                Method::Cancel,
                Method::Bye,
                Method::Options,
                Method::Register,
            ]),
            proxy_extensions: Vec::new(),
            extensions: None,
            keeps_no_state: false,
            retry_after_s: 5,
            timers: Timers::default(),
            limits: Limits::default(),
        }
    }
}
