//! The SIP protocol, sans I/O: bytes and time in; bytes, deadlines and events out.
//!
//! SIP (RFC 3261) is how telephones and carriers tell each other that someone calls, who answers, and that it is
//! over. This crate speaks it without ever touching a socket, a clock, a thread or a random number: whoever uses it
//! hands in what the network brought and what time it is, and carries out what comes back. That is why ten thousand
//! whole calls on a bad network are played in each test run, each from one seed.
//!
//! # Where to begin
//!
//! * New to SIP: [`guide`] tells it by one call, message by message, and the example there runs.
//! * To see it at work: `examples/edge` takes real calls; its first lines say how to make one through it.
//! * To build something: [`endpoint`] has the engine and the loop around it. Its contract is one sentence long.
//! * To read or change a message: [`Message`], with [`header`], [`uri`] and [`number`] for its parts.
//!
//! # The floors of the house
//!
//! ```text
//!   user_agent   registrations, pings, calls of our own        proxy      targets, failover, the one answer
//!            └───────────────┬────────────────────────────────────┘
//!                        endpoint     runs everything below; sorts what comes in; limits; statistics
//!                            │
//!           transaction (four machines) · dialog · digest · validate
//!                            │
//!              Message: one buffer and an index · builders · edits · stream framing
//! ```
//!
//! Lower floors know nothing of higher ones, but for endpoint and proxy, which are one floor in two rooms. Every limit
//! has a name; most stand in [`limits`], the others beside what they limit.
//!
//! # What must stay true
//!
//! * No input makes this crate panic, look at a message more than a few times its length, or keep memory for longer
//!   than 64·T1 after the last word about it was said – ten minutes ([`RINGING_MAX`]) while a call rings.
//! * What is not edited is forwarded byte for byte.
//! * A response goes back to the address its request came from, never to one that a header names (`maddr` is not even
//!   read). On a connection that is all; over UDP its port is the Via's (RFC 3261 §18.2.2), or the request's if the Via
//!   asks with `rport` (RFC 3581).
//! * A request inside a dialog needs no memory of the dialog: what is needed stands in its Route, signed.
//! * What one peer is told about one call is told in the order in which it happened.
//!
//! # What it costs
//!
//! Measured on 2026-11-22 on a virtual machine with two cores of an Intel Xeon. Its neighbours make single runs slower
//! by up to half, so each figure is the best of its rounds, and those beside another were measured in turn with it.
//!
//! | What | Figure | Beside | Again |
//! |---|---|---|---|
//! | index an INVITE of 800 bytes, no allocation | 144 ns | 36 ns for a bare search for line ends | `cargo bench -p sip --bench index` |
//! | the engine, a redirected call (2 messages in, 1 out) | 3.1 µs | | `cargo bench -p sip --bench calls` |
//! | the engine, a call forwarded without state (6 in, 6 out) | 12.1 µs | | |
//! | the engine, a proxied call (6 in, 6 out) | 14.0 µs | | |
//! | CPU of a redirected call, kernel and all | 27 µs | Kamailio 5.6: 34 µs (0.78; other hours 0.64 to 0.94) | `crates/sip/benches/kamailio/run.sh cpu` |
//! | CPU of a call forwarded without state | 63 µs | Kamailio 5.6: 79 µs (0.79; another hour 0.67) | |
//! | CPU of a proxied call | 82 µs | Kamailio 5.6: 128 µs (0.64) | |
//! | first response of a redirected call, half and 99 % within | 18 µs, 38 µs | Kamailio 5.6: 20 µs, 36 µs | `crates/sip/benches/kamailio/run.sh first` |
//! | first response of a call forwarded without state | 75 µs, 190 µs | Kamailio 5.6: 91 µs, 231 µs | |
//! | first response of a proxied call | 101 µs, 254 µs | Kamailio 5.6: 135 µs, 315 µs | |
//! | resident memory before, after 100,000 proxied calls at 1,500/s, after 40 s of rest | 3.2, 193, 4.5 MB | Kamailio 5.6: 9, 220, 220 MB | `MODES=stateful crates/sip/benches/kamailio/run.sh memory 1500` |
//!
//! After the rest the engine holds nothing ([`endpoint::Statistics`] says zero everywhere, and a test counts the
//! allocator's bytes). Whether the process then has its memory back is its allocator's doing: the example takes one that
//! gives it back (`MIMALLOC_PURGE_DELAY=0` for that measurement), while the C library's kept 101 of 170 MB. At 1,000
//! calls/s for 30 s no call failed in any mode.
//!
//! The index has two speeds, 140 and 225 ns, each for a whole run and whichever the addresses, while the bare search
//! hardly changes: probably a neighbour on the same physical core, but that is not proven. CPU is at 1,500 calls/s with
//! `examples/edge`, one core each. More than half of it is the kernel, which takes the same for each datagram whoever
//! sends it and is some 45 % of what Kamailio takes in all: no engine could make the second row much better than 0.5.
//!
//! # Absent on purpose
//!
//! Sockets, DNS and TLS (the edge of the server has them), media and the meaning of SDP, subscriptions other than
//! REFER's, S/MIME, SCTP and WebSocket transports, parallel forking.

pub mod dialog;
pub mod digest;
pub mod edit;
pub mod endpoint;
pub mod flow;
pub mod guide;
pub mod header;
mod keyed;
pub mod limits;
mod lines;
mod message;
mod method;
pub mod number;
#[cfg(test)]
mod odd_messages;
mod parse;
mod print;
pub mod proxy;
mod scan;
mod slab;
mod status;
pub mod stream;
mod time;
mod transaction;
pub mod uri;
pub mod user_agent;
pub mod validate;
mod wheel;
mod work;

pub use edit::UnsafeText;
pub use flow::{Flow, Source, Transmit, Transport};
pub use header::name::Name;
pub use header::{Fault, HeaderError};
pub use keyed::Keys;
pub use message::{Header, Message};
pub use method::{Method, MethodSet};
pub use parse::{Flaw, ParseError};
pub use print::{RequestBuilder, ResponseBuilder};
pub use scan::{BadParam, Params};
pub use status::Status;
pub use time::Instant;
pub use transaction::{RINGING_MAX, TRYING_AFTER, Timers};
