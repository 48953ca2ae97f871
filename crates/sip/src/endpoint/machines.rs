//! Runs the machines: their steps become transmits and events, their deadlines go to the wheel, and when they are
//! over their memory goes back.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::{AttemptId, Endpoint, EndpointError, Event, RequestId, Timer};
use crate::flow::{Flow, Source, Transmit, Transport};
use crate::header::via::Via;
use crate::message::Message;
use crate::method::Method;
use crate::print::ResponseBuilder;
use crate::proxy::branch::Kind;
use crate::slab::Handle;
use crate::status::Status;
use crate::time::Instant;
use crate::transaction::client::Client;
use crate::transaction::client_invite::ClientInvite;
use crate::transaction::server::Server;
use crate::transaction::server_invite::ServerInvite;
use crate::transaction::{Input, Machine, Notice, Owner, Step, Transaction, cancel_for};

/// Why a new transaction is turned away.
pub(super) enum Turned {
    /// There are as many as there may be.
    Full,
    /// This source has as many as it may have.
    SourceLimit,
}

impl Endpoint {
    /// Gives a machine an input and does what it asks for. The notice is returned to those who handle it themselves.
    pub(crate) fn run(&mut self, now: Instant, handle: Handle, input: Input<'_>) -> Option<Notice> {
        let transaction = self.transactions.at_mut(handle)?;
        let flow = transaction.flow;
        let framed;
        let mut input = input;
        if let (Input::Response(response), Machine::ServerInvite(_) | Machine::Server(_)) =
            (input, &transaction.machine)
        {
            if flow.transport.is_reliable() && response.content_length() == Ok(None) {
                let mut copy = response.clone();
                copy.frame_for(flow.transport);
                framed = copy;
                input = Input::Response(&framed);
            }
            if response.status().is_some_and(Status::is_final) {
                // The request is not needed any more.
                transaction.request = None;
            }
            if response.status().is_some_and(|status| status.is_final() && !status.is_success())
                && let Some(key) = transaction.merge_key.take()
                && self.by_merge_key.get(&key) == Some(&handle)
            {
                // A proxy in front of us may try again with the same CSeq, such as after a challenge.
                self.by_merge_key.remove(&key);
            }
        }
        let step = transaction.machine.handle(now, input);
        self.carry_out(flow, step.send);
        self.settle(handle);
        step.notice
    }

    fn carry_out(&mut self, flow: Flow, send: Option<Vec<u8>>) {
        if let Some(bytes) = send.filter(|bytes| !bytes.is_empty()) {
            self.transmit(flow, bytes);
        }
    }

    /// Sets the wheel for a transaction, or takes it away when it is over.
    fn settle(&mut self, handle: Handle) {
        let Some(transaction) = self.transactions.at_mut(handle) else { return };
        let held = transaction.held_now();
        self.held_bytes = self.held_bytes + held - std::mem::replace(&mut transaction.held, held);
        let waits = transaction.machine.is_waiting();
        self.waiting =
            self.waiting + usize::from(waits) - usize::from(std::mem::replace(&mut transaction.waits, waits));
        if transaction.machine.is_over() {
            return self.remove(handle);
        }
        let (deadline, armed) = (transaction.machine.deadline(), transaction.armed);
        let armed = self.arm(deadline, armed, Timer::Transaction(handle));
        if let Some(transaction) = self.transactions.at_mut(handle) {
            transaction.armed = armed;
        }
    }

    fn remove(&mut self, handle: Handle) {
        let Some(transaction) = self.transactions.remove(handle) else { return };
        self.held_bytes -= transaction.held;
        self.waiting -= usize::from(transaction.waits);
        if self.by_key.get(&transaction.key) == Some(&handle) {
            self.by_key.remove(&transaction.key);
        }
        if let Some(key) = transaction.merge_key
            && self.by_merge_key.get(&key) == Some(&handle)
        {
            self.by_merge_key.remove(&key);
        }
        if let Some(ip) = transaction.counted
            && let Some(count) = self.per_source.get_mut(&ip)
        {
            *count -= 1;
            self.of_strangers -= 1;
            if *count == 0 {
                self.per_source.remove(&ip);
            }
        }
        if self.transactions.len() == 0 {
            // A past flood's memory goes back.
            self.by_key.shrink_to(1024);
            self.by_merge_key.shrink_to(1024);
            self.per_source.shrink_to(64);
        }
        match transaction.owner {
            Owner::Call { call, branch } => self.call_branch_over(call, branch),
            Owner::Caller | Owner::Nobody => {}
        }
        if let Some(call) = self.call_of.get(&handle).copied() {
            self.call_request_over(call);
        }
    }

    /// A timer of a transaction came.
    pub(super) fn wake(&mut self, now: Instant, handle: Handle) {
        let Some(transaction) = self.transactions.at_mut(handle) else { return };
        if transaction.armed.is_some_and(|armed| armed <= now) {
            transaction.armed = None;
        }
        if transaction.machine.deadline().is_none_or(|deadline| deadline > now) {
            return self.settle(handle);
        }
        if matches!(&transaction.machine, Machine::ServerInvite(machine) if machine.is_forgotten(now)) {
            // The caller is owed an end although the owner never said one.
            let id = RequestId(handle);
            if self.reply(now, id, Status::REQUEST_TIMEOUT, &[]).is_ok() {
                return self.tell(Event::RequestLost { id });
            }
        }
        let Some(transaction) = self.transactions.at(handle) else { return };
        let owner = transaction.owner;
        let is_server = matches!(transaction.machine, Machine::Server(_) | Machine::ServerInvite(_));
        let call = self.call_of.get(&handle).copied().filter(|_| is_server);
        match self.run(now, handle, Input::Time) {
            Some(Notice::TimedOut) if !is_server => match owner {
                Owner::Caller => self.tell(Event::TimedOut { id: AttemptId(handle) }),
                Owner::Call { call, branch } => self.call_timed_out(now, call, branch),
                Owner::Nobody => {}
            },
            Some(Notice::TimedOut | Notice::AckMissing) => {
                if let Some(call) = call {
                    self.call_give_up_others(now, call);
                }
                self.tell(Event::RequestLost { id: RequestId(handle) });
            }
            Some(Notice::Response) | None => {}
        }
    }

    /// Whether another server transaction may begin, and counts it.
    pub(super) fn admit(&mut self, source: Source) -> Result<Option<IpAddr>, Turned> {
        if self.transactions.len() >= self.config.limits.transactions
            || self.held_bytes >= self.config.limits.held_bytes
        {
            return Err(Turned::Full);
        }
        if source.is_known {
            return Ok(None);
        }
        let ip = source_of(source.flow.remote.ip());
        let count = self.per_source.entry(ip).or_insert(0);
        if *count >= self.config.limits.transactions_per_source
            || self.of_strangers >= self.config.limits.transactions_of_strangers
        {
            if *count == 0 {
                self.per_source.remove(&ip);
            }
            return Err(Turned::SourceLimit);
        }
        *count += 1;
        self.of_strangers += 1;
        Ok(Some(ip))
    }

    /// Begins a server transaction.
    pub(super) fn start_server(
        &mut self,
        now: Instant,
        key: u128,
        merge_key: Option<u128>,
        request: &Arc<Message>,
        flow: Flow,
        counted: Option<IpAddr>,
    ) -> Handle {
        let timers = self.config.timers;
        let is_reliable = flow.transport.is_reliable();
        let machine = if request.method() == Some(Method::Invite) {
            Machine::ServerInvite(ServerInvite::new(now, Arc::clone(request), timers, is_reliable))
        } else {
            Machine::Server(Server::new(now, timers, is_reliable))
        };
        let handle = self.transactions.insert(Transaction {
            machine,
            key,
            flow,
            owner: Owner::Caller,
            request: Some(Arc::clone(request)),
            merge_key,
            counted,
            armed: None,
            held: 0,
            waits: false,
        });
        self.by_key.insert(key, handle);
        if let Some(key) = merge_key {
            self.by_merge_key.entry(key).or_insert(handle);
        }
        self.settle(handle);
        handle
    }

    /// Begins a client transaction for a request of our own.
    pub(crate) fn start_client(
        &mut self,
        now: Instant,
        request: Message,
        flow: Flow,
        owner: Owner,
    ) -> Result<Handle, EndpointError> {
        let unique = self.names.next();
        let branch = self.branches.make(&request, Kind::Transaction, unique);
        self.start_branch(now, request, &branch, flow, owner)
    }

    /// Begins a client transaction with this branch: puts our Via on and sends.
    pub(crate) fn start_branch(
        &mut self,
        now: Instant,
        mut request: Message,
        branch: &[u8],
        flow: Flow,
        owner: Owner,
    ) -> Result<Handle, EndpointError> {
        let limits = &self.config.limits;
        if self.transactions.len() >= limits.transactions || self.held_bytes >= limits.held_bytes {
            return Err(EndpointError::Full);
        }
        if !request.is_request() || request.method() == Some(Method::Ack) {
            return Err(EndpointError::Unusable);
        }
        request.push_via(&self.via_value(&flow, branch))?;
        request.frame_for(flow.transport);
        Ok(self.insert_client(now, branch, request, flow, owner))
    }

    fn insert_client(
        &mut self,
        now: Instant,
        branch: &[u8],
        request: Message,
        flow: Flow,
        owner: Owner,
    ) -> Handle {
        let key = self.keys.client(branch, request.method_text());
        let timers = self.config.timers;
        let is_reliable = flow.transport.is_reliable();
        let (machine, step): (Machine, Step) = if request.method() == Some(Method::Invite) {
            let (machine, step) = ClientInvite::new(now, request, timers, is_reliable);
            (Machine::ClientInvite(machine), step)
        } else {
            let (machine, step) = Client::new(now, request.into_bytes(), timers, is_reliable);
            (Machine::Client(machine), step)
        };
        let handle = self.transactions.insert(Transaction {
            machine,
            key,
            flow,
            owner,
            request: None,
            merge_key: None,
            counted: None,
            armed: None,
            held: 0,
            waits: false,
        });
        self.by_key.insert(key, handle);
        self.carry_out(flow, step.send);
        self.settle(handle);
        handle
    }

    /// Sends CANCEL for an INVITE of ours, in a transaction of its own that nobody waits for (RFC 3261 §9.1).
    pub(crate) fn cancel_client(&mut self, now: Instant, handle: Handle) -> bool {
        let Some(transaction) = self.transactions.at_mut(handle) else { return false };
        let Machine::ClientInvite(machine) = &mut transaction.machine else { return false };
        // Where nothing was heard the INVITE is repeated as before: the target may be ringing, its answer lost, and only
        // the next one brings the CANCEL.
        let Some(cancel) = machine.cancellable().and_then(|invite| cancel_for(invite).ok()) else {
            return false;
        };
        machine.cancelled(now);
        let flow = transaction.flow;
        self.settle(handle);
        let branch = cancel.via_top().ok().and_then(|via| via.branch()).unwrap_or_default().to_vec();
        self.insert_client(now, &branch, cancel, flow, Owner::Nobody);
        true
    }

    /// A transport says that nothing can be sent this way.
    pub(super) fn unreachable(&mut self, now: Instant, transmit: &Transmit) {
        // The message itself tells which transaction it belongs to; no table of flows is kept.
        let Ok(message) = Message::parse(&transmit.bytes) else { return };
        let Some(method) = message.method() else { return };
        if matches!(method, Method::Ack | Method::Cancel) {
            return;
        }
        let Ok(via) = message.via_top() else { return };
        let key = self.keys.client(via.branch().unwrap_or_default(), message.method_text());
        let Some(&handle) = self.by_key.get(&key) else { return };
        let Some(transaction) = self.transactions.at(handle) else { return };
        if !transaction.machine.is_unheard() {
            // Whoever has answered is reached, whatever became of one message.
            return;
        }
        let owner = transaction.owner;
        let answer = ResponseBuilder::new(&message, Status::UNAVAILABLE).to_tag(b"unreachable").build();
        match owner {
            Owner::Call { call, branch } => {
                // Over before the call hears of it, so that nothing is sent that way again.
                self.call_unreachable(now, call, branch);
                self.forget(handle);
            }
            Owner::Caller => {
                self.forget(handle);
                if let Ok(mut response) = answer {
                    response.pop_via();
                    self.tell(Event::Response { id: AttemptId(handle), response: Arc::new(response) });
                }
            }
            Owner::Nobody => self.forget(handle),
        }
    }

    /// Ends a transaction at once.
    pub(crate) fn forget(&mut self, handle: Handle) {
        self.remove(handle);
    }
}

/// What counts as one source. A host has a whole IPv6 network of 64 bits to itself (RFC 4291 §2.5.4), so addresses in
/// it are one; an IPv4 address is the same one in both dresses.
pub(super) fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Where responses to a request go: back where it came from, never to an `maddr` (RFC 3261 §18.2.2, RFC 3581 §4).
pub(super) fn reply_flow(via: &Via<'_>, flow: Flow) -> Flow {
    if flow.transport != Transport::Udp {
        return flow;
    }
    let mut reply = flow;
    if via.rport().is_none() {
        reply.remote.set_port(via.port.unwrap_or(Transport::Udp.default_port()));
    }
    reply
}
