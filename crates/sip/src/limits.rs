//! The limits of this crate, by name. A few that only one file knows stand there.
//!
//! What arrives from the network is bounded here before it costs anything. Limits that an operator may want to move
//! are fields of [`crate::endpoint::Limits`] whose defaults stand here too.

use std::time::Duration;

/// The longest message we read or frame: 64 KiB, which is also what one UDP datagram can hold.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The longest single header field, folds included. A longer one is answered with 400.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;

/// The most header fields in one message. More are answered with 400.
pub const HEADERS_MAX: usize = 256;

/// The most Via values in one message. More are answered with 400: a real path has fewer than ten.
pub const VIAS_MAX: usize = 100;

/// The longest URI in a request line. A longer one is answered with 414.
pub const URI_BYTES_MAX: usize = 2 * 1024;

/// The most parameters of a URI that are compared with another URI's. One with more is the same as what is written
/// the same.
pub const URI_PARAMS_MAX: usize = 32;

/// The longest user part of a request-URI. A longer one is answered with 414.
pub const USER_BYTES_MAX: usize = 256;

/// The longest branch, tag or Call-ID we keep state for. Longer ones are answered with 400.
pub const IDENTIFIER_BYTES_MAX: usize = 512;

/// The largest CSeq number (RFC 3261 §8.1.1.5: less than 2**31).
pub const CSEQ_MAX: u32 = 0x7fff_ffff;

/// The most option tags we echo in an Unsupported header.
pub const OPTION_TAGS_MAX: usize = 32;

/// The most targets of one call, tried one after another.
pub const TARGETS_MAX: usize = 16;

/// Transactions in all (server and client together), by default. Most of them are answered and linger for 64·T1: at
/// 10,000 proxied calls a second these are some 640,000, and each takes about half a kilobyte.
pub const TRANSACTIONS_MAX: usize = 1_000_000;

/// Server transactions of one source that is no known peer, by default. A source is an IPv4 address, or an IPv6 network
/// of 64 bits.
pub const TRANSACTIONS_PER_SOURCE_MAX: usize = 1_000;

/// Server transactions of all sources that are no known peers together, by default: they never take the room of those
/// that are.
pub const TRANSACTIONS_OF_STRANGERS_MAX: usize = TRANSACTIONS_MAX / 10;

/// Bytes of messages that transactions and calls hold, by default. A usual call holds some 3 kB; whoever sends messages
/// of 64 KiB reaches this before the count of transactions.
pub const HELD_BYTES_MAX: usize = 512 * 1024 * 1024;

/// As many transactions may wait for a final response, by default; from then on new calls are shed with 503: what is in
/// progress needs room.
pub const SHED_AT: usize = 200_000;

/// Outputs waiting to be polled. The contract is to drain after each call; whoever does not loses the newest.
pub const OUTPUTS_MAX: usize = 65_536;

/// Timers that come at once stop being served when so many outputs wait: those left come with the next call, which is
/// asked for at once. What one timer causes is far less than what is still free then.
pub(crate) const OUTPUTS_BY_TIMERS_MAX: usize = OUTPUTS_MAX / 2;

/// Dialogs of one target that nobody wants and that we end: a forking proxy behind it may answer more than once.
pub(crate) const UNWANTED_DIALOGS_MAX: usize = 8;

/// Bytes that may stand in one connection's buffer: one whole message.
pub const STREAM_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// Nonces remembered for their counters by one [`crate::digest::Authenticator`]. The oldest gives way: a flood of
/// challenges stores nothing, since only a nonce that was answered rightly is remembered.
pub const NONCES_MAX: usize = 4_096;

/// How long a nonce is good for.
pub const NONCE_LIFETIME: Duration = Duration::from_secs(60);

/// How long the owner may think about a 3xx before it counts as a failure of that target.
pub const REDIRECT_DECISION_MAX: Duration = Duration::from_secs(5);

/// The most calls a [`crate::user_agent::UserAgent`] holds at once.
pub const CALLS_MAX: usize = 1_000;

/// The most REFERs of one side that one call of a [`crate::user_agent::UserAgent`] reports on at once.
pub const REFERS_MAX: usize = 16;

/// The most callees that one call of a [`crate::user_agent::UserAgent`] thanks for taking it; more are not answered.
pub const TAKERS_MAX: usize = 16;

/// The most contacts read from a REGISTER answer.
pub const CONTACTS_MAX: usize = 100;
