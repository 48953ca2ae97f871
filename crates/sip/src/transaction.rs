//! Transactions (RFC 3261 §17, with RFC 6026's Accepted states): a request, its retransmissions, its responses.
//!
//! Four machines, a file each: [`client_invite`], [`client`], [`server_invite`], [`server`]. Each is a value that
//! takes an input and the time and says what to send and whom to tell; it owns no socket, no timer and no table.
//! Each state is one function, with the section of the RFC that rules it above it. [`crate::endpoint`] runs them.

pub(crate) mod client;
pub(crate) mod client_invite;
pub(crate) mod key;
pub(crate) mod server;
pub(crate) mod server_invite;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::edit::UnsafeText;
use crate::flow::Flow;
use crate::header::name::Name;
use crate::message::Message;
use crate::method::Method;
use crate::print::RequestBuilder;
use crate::slab::Handle;
use crate::time::Instant;

/// The times that all others are made of (RFC 3261 §17.1.1.1, Table 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timers {
    /// T1: the round trip that is assumed.
    pub t1: Duration,
    /// T2: the longest pause between retransmissions.
    pub t2: Duration,
    /// T4: how long a message may stay in the network.
    pub t4: Duration,
}

impl Default for Timers {
    fn default() -> Timers {
        Timers { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl Timers {
    /// 64·T1: timers B, F, H, J, L and M.
    pub fn patience(&self) -> Duration {
        self.t1 * 64
    }

    /// Timer D (§17.1.1.2): at least 32 s, however short T1 is made.
    fn d(&self) -> Duration {
        self.patience().max(Duration::from_secs(32))
    }
}

/// RFC 3261 §17.2.1: a 100 is sent when nothing else was within this time.
pub const TRYING_AFTER: Duration = Duration::from_millis(200);

/// A call that rings longer than this without an end is given up, so that no transaction stays for ever. The proxy
/// and the user agent have shorter limits of their own.
pub const RINGING_MAX: Duration = Duration::from_secs(600);

/// What happens to a machine.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    /// A response came (client), or is to be sent (server).
    Response(&'a Message),
    /// The request came again (server).
    Again,
    /// An ACK came (INVITE server).
    Ack,
    /// A deadline may have passed.
    Time,
}

/// What a machine wants done.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) send: Option<Vec<u8>>,
    pub(crate) notice: Option<Notice>,
}

/// What a machine tells its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Notice {
    /// The response is for the owner.
    Response,
    /// No final response came in time.
    TimedOut,
    /// No ACK came for our final response.
    AckMissing,
}

impl Step {
    fn nothing() -> Step {
        Step::default()
    }

    fn send(bytes: &[u8]) -> Step {
        Step { send: Some(bytes.to_vec()), notice: None }
    }

    fn tell(notice: Notice) -> Step {
        Step { send: None, notice: Some(notice) }
    }
}

/// Retransmission: when next, and how far apart.
#[derive(Clone, Copy, Debug)]
struct Resend {
    at: Instant,
    pause: Duration,
}

impl Resend {
    fn new(now: Instant, pause: Duration) -> Resend {
        Resend { at: now + pause, pause }
    }

    /// Whether it is time; then the pause doubles, up to `longest`.
    fn is_due(&mut self, now: Instant, longest: Duration) -> bool {
        let due = now >= self.at;
        if due {
            self.pause = (self.pause * 2).min(longest);
            self.at = now + self.pause;
        }
        due
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// One of the four.
#[derive(Debug)]
pub(crate) enum Machine {
    ClientInvite(client_invite::ClientInvite),
    Client(client::Client),
    ServerInvite(server_invite::ServerInvite),
    Server(server::Server),
}

impl Machine {
    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>) -> Step {
        match self {
            Machine::ClientInvite(machine) => machine.handle(now, input),
            Machine::Client(machine) => machine.handle(now, input),
            Machine::ServerInvite(machine) => machine.handle(now, input),
            Machine::Server(machine) => machine.handle(now, input),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Machine::ClientInvite(machine) => machine.deadline(),
            Machine::Client(machine) => machine.deadline(),
            Machine::ServerInvite(machine) => machine.deadline(),
            Machine::Server(machine) => Some(machine.deadline()),
        }
    }

    /// Bytes of messages that it keeps for sending again.
    fn held_bytes(&self) -> usize {
        match self {
            Machine::ClientInvite(machine) => machine.held_bytes(),
            Machine::Client(machine) => machine.held_bytes(),
            Machine::ServerInvite(machine) => machine.held_bytes(),
            Machine::Server(machine) => machine.held_bytes(),
        }
    }

    /// Whether a request of ours has had no response at all.
    pub(crate) fn is_unheard(&self) -> bool {
        match self {
            Machine::ClientInvite(machine) => machine.is_unheard(),
            Machine::Client(machine) => machine.is_unheard(),
            Machine::ServerInvite(_) | Machine::Server(_) => false,
        }
    }

    /// Whether a final response is still to come; what has had its own only lingers, to know repetitions.
    pub(crate) fn is_waiting(&self) -> bool {
        match self {
            Machine::ClientInvite(machine) => machine.is_waiting(),
            Machine::Client(machine) => machine.is_waiting(),
            Machine::ServerInvite(machine) => !machine.is_answered(),
            Machine::Server(machine) => !machine.is_answered(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        match self {
            Machine::ClientInvite(machine) => machine.is_over(),
            Machine::Client(machine) => machine.is_over(),
            Machine::ServerInvite(machine) => machine.is_over(),
            Machine::Server(machine) => machine.is_over(),
        }
    }
}

/// Who is told about a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// Whoever drives the endpoint.
    Caller,
    /// A proxied call, and which of its branches.
    Call { call: Handle, branch: u32 },
    /// Nobody: what it brings is of no interest, such as a CANCEL's answer.
    Nobody,
}

/// A machine with all that the endpoint needs to run it.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) machine: Machine,
    pub(crate) key: u128,
    pub(crate) flow: Flow,
    pub(crate) owner: Owner,
    /// The request, until its final response.
    pub(crate) request: Option<Arc<Message>>,
    /// For finding requests that came by two ways (RFC 3261 §8.2.2.2).
    pub(crate) merge_key: Option<u128>,
    /// Whose limit it counts against.
    pub(crate) counted: Option<IpAddr>,
    /// The earliest wake-up that the wheel holds for it.
    pub(crate) armed: Option<Instant>,
    /// How much of it was counted as held when it was last looked at.
    pub(crate) held: usize,
    /// Whether it was counted as waiting then.
    pub(crate) waits: bool,
}

impl Transaction {
    /// Bytes of messages that it keeps.
    pub(crate) fn held_now(&self) -> usize {
        self.machine.held_bytes() + self.request.as_ref().map_or(0, |request| request.bytes().len())
    }
}

/// The ACK for a final response that is no 2xx (RFC 3261 §17.1.1.3): same branch, same URI, the response's To.
pub(crate) fn ack_for(invite: &Message, response: &Message) -> Result<Message, UnsafeText> {
    follow(invite, Method::Ack, response.lines(Name::To).next().unwrap_or_default())
}

/// The CANCEL for a request (RFC 3261 §9.1).
pub(crate) fn cancel_for(invite: &Message) -> Result<Message, UnsafeText> {
    follow(invite, Method::Cancel, invite.lines(Name::To).next().unwrap_or_default())
}

/// A request on the same hop as the INVITE: top Via, From, Call-ID, the CSeq's number and Route are the INVITE's.
fn follow(invite: &Message, method: Method, to: &[u8]) -> Result<Message, UnsafeText> {
    let number = invite.cseq().map_or(0, |cseq| cseq.number);
    let mut builder = RequestBuilder::new(method, invite.uri_text());
    builder = builder.header("Via", one_line(invite.list(Name::Via).next().unwrap_or_default()));
    for route in invite.lines(Name::Route) {
        builder = builder.header("Route", one_line(route));
    }
    builder = builder
        .header("Max-Forwards", "70")
        .header("From", one_line(invite.lines(Name::From).next().unwrap_or_default()))
        .header("To", one_line(to))
        .header("Call-ID", one_line(invite.lines(Name::CallId).next().unwrap_or_default()))
        .header("CSeq", format!("{number} {method}"));
    // RFC 3261 §22.1: an ACK for a 2xx carries the credentials of its INVITE; the others need none.
    builder.build()
}

/// Folds made one line.
pub(crate) fn one_line(value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', value).is_some() {
        value.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
    } else {
        std::borrow::Cow::Borrowed(value)
    }
}

#[cfg(test)]
mod tests;
