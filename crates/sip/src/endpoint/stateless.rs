//! What is inside a dialog goes onward without state: what is needed stands in the message, signed (RFC 3261 §16.11).
//!
//! Any node that shares our keys does the same with the same message, so a restart loses no call that is up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::input::{SourceNote, too_many_hops};
use super::machines::{reply_flow, source_of};
use super::{Endpoint, EndpointError, Listener};
use crate::flow::{Flow, Source, Transport};
use crate::header::Essentials;
use crate::header::address::Address;
use crate::header::name::Name;
use crate::header::via::Via;
use crate::message::Message;
use crate::method::Method;
use crate::print::ResponseBuilder;
use crate::proxy::Target;
use crate::proxy::branch::{Below, BranchText, Kind, Marks, NO_LISTENER};
use crate::proxy::record_route::{PARAM, Ways};
use crate::status::Status;
use crate::uri::{SipUri, Uri};
use crate::validate::Checked;

/// Whose a Route is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OwnRoute {
    /// It names us, with our signature for this dialog.
    Signed(Ways),
    /// It names us without one: someone was told to come by us.
    Bare,
    /// Another's.
    NotOurs,
}

/// Routes of ours that are taken away: some without a signature, where someone was told to come by us, and the signed one
/// (or two, alike, for a dialog that changes transports on its way through us: RFC 5658). What stands behind it belongs
/// to another time that the dialog comes by us.
const OWN_ROUTES_MAX: usize = 3;

/// What forwarding along a Route needs to know of the request as it came.
pub(super) struct Onward {
    branch: BranchText,
    /// Its first Route.
    route: OwnRoute,
    /// Whether that stood in the request-URI, where routers from before RFC 3261 put it.
    is_strict: bool,
    dialog: Option<InDialog>,
}

/// A request's place in a dialog, as far as it can be told from the request alone.
struct InDialog {
    /// Both tags, hashed as a signed Route has the caller's.
    from: u32,
    to: u32,
    method: Method,
    source: Source,
}

/// How far a request is trusted to say where it goes.
enum Onto {
    /// To where its URI and its other Routes say, as a dialog's peers move.
    NextHop(Flow),
    /// To the dialog's other end as we know it, and nowhere else.
    Way(Flow),
}

impl InDialog {
    /// Where a request from here goes. Nowhere, unless one of the two is its sender: whoever has seen a signed Route
    /// could otherwise have us send what they like to whom they like. Someone else with the dialog's tag may be a target
    /// behind another server, or a phone whose address changed: it may end the call, or acknowledge it.
    fn onto(&self, ways: &Ways) -> Option<Onto> {
        let way = match ways.caller_tag {
            tag if tag == self.from => ways.callee,
            tag if tag == self.to => ways.caller,
            _ => return None,
        };
        let host = source_of(self.source.flow.remote.ip());
        let is_one_of_them =
            [ways.caller, ways.callee].iter().any(|flow| source_of(flow.remote.ip()) == host);
        if self.source.is_known || is_one_of_them {
            return Some(Onto::NextHop(way));
        }
        matches!(self.method, Method::Bye | Method::Ack).then_some(Onto::Way(way))
    }
}

impl Endpoint {
    /// For a request whose top Via is yet to be told where it came from. `None` if it does not name us as a router.
    pub(super) fn onward(
        &self,
        source: Source,
        request: &Message,
        read: &Checked<'_>,
        note: &SourceNote,
    ) -> Option<Onward> {
        let Essentials { via, from, to, call_id, .. } = &read.essentials;
        let strict = read.uri.filter(|uri| uri.params.find(PARAM).is_some());
        let route = match (strict.map(|uri| self.owner_of(&uri, call_id)), &read.route) {
            (Some(route @ OwnRoute::Signed(_)), _) => Some((route, true)),
            (_, Some(uri)) => Some((self.owner_of(uri, call_id), false)),
            _ => None,
        };
        let (route, is_strict) = route.filter(|(route, _)| *route != OwnRoute::NotOurs)?;
        let below = note.told_to(Below::of(*via));
        let listener = self.number_of(&source.flow);
        let branch =
            self.branches.make_stateless(request, &Marks::from(&read.essentials), Some(below), listener);
        // A request outside a dialog is for someone to decide about, whatever its Route says. Peers from before RFC 3261
        // have no tag, but what these two methods are about is always a dialog.
        let method = request.method()?;
        let is_inside = to.tag().is_some() || matches!(method, Method::Bye | Method::Ack);
        let dialog = is_inside.then(|| InDialog {
            from: self.signer.tag_hash(from.tag().unwrap_or_default()),
            to: self.signer.tag_hash(to.tag().unwrap_or_default()),
            method,
            source,
        });
        Some(Onward { branch, route, is_strict, dialog })
    }

    /// Takes our Routes away (RFC 3261 §16.4) and, if one is signed for this dialog, forwards the request. False: it is
    /// not in a dialog that goes through us, and someone has to decide.
    pub(super) fn forward_in_dialog(
        &mut self,
        source: Source,
        request: &mut Message,
        onward: Onward,
    ) -> bool {
        let mut route = onward.route;
        if onward.is_strict {
            request.take_uri_from_last_route();
        } else {
            for taken in 1.. {
                request.pop_route();
                match (route, self.own_route(request)) {
                    (_, OwnRoute::NotOurs) => break,
                    (OwnRoute::Bare, next) if taken < OWN_ROUTES_MAX => route = next,
                    (OwnRoute::Signed(ways), OwnRoute::Signed(next)) if ways == next => {
                        request.pop_route();
                        break;
                    }
                    _ => break,
                }
            }
        }
        let OwnRoute::Signed(ways) = route else { return false };
        let Some(onto) = onward.dialog.and_then(|dialog| dialog.onto(&ways)) else { return false };
        // Most were refused before; what may be for us when it can go no further is not, inside someone's dialog.
        if !request.decrement_max_forwards() {
            self.refuse(source, request, &too_many_hops());
            return true;
        }
        // What the request goes to when the next hop is from before RFC 3261 stands in its URI (§16.6 step 6).
        let is_strict = request.routes().next().and_then(Result::ok).is_some_and(|route| is_strict(&route));
        let flow = match onto {
            Onto::NextHop(way) => self.next_hop(request, way),
            Onto::Way(way) => way,
        };
        if is_strict {
            request.give_uri_to_last_route();
        }
        self.forward(request, &onward.branch, flow);
        true
    }

    /// Forwards a request without state to where the owner says, such as an ACK that [`super::Event::Ack`] brought.
    /// One that may go no further is not.
    pub fn forward_to(&mut self, request: &Message, flow: Flow) -> Result<(), EndpointError> {
        if !request.is_request() {
            return Err(EndpointError::Unusable);
        }
        let below = request.via_top().ok().map(Below::of);
        // An ACK has no response, and where another request came from is not known here.
        let branch = self.branches.make_stateless(request, &Marks::of(request), below, NO_LISTENER);
        let mut request = request.copy_to_forward();
        if !request.decrement_max_forwards() {
            return Err(EndpointError::Unusable);
        }
        self.forward(&mut request, &branch, flow);
        Ok(())
    }

    /// Forwards a request that [`super::Event::Stateless`] brought to a target, by a branch that is the same for its
    /// retransmissions, its CANCEL and its ACK (RFC 3261 §16.11). The target's time-outs mean nothing here. What may
    /// go no further is answered with 483 instead.
    pub fn forward_stateless(
        &mut self,
        request: &Message,
        source: Source,
        target: &Target,
        record_route: bool,
    ) -> Result<(), EndpointError> {
        let via = request.via_top().map_err(|_| EndpointError::Unusable)?;
        let marks = Marks::of(request);
        let mut forwarded = request.copy_to_forward();
        if !forwarded.decrement_max_forwards() {
            self.refuse(source, request, &too_many_hops());
            return Ok(());
        }
        forwarded.set_uri(&target.uri)?;
        for (name, value) in &target.headers {
            forwarded.add(name, value)?;
        }
        if record_route && begins_dialog(request) {
            self.record_route(&mut forwarded, request, source.flow, target.flow)?;
        }
        // The branch is made from what came, so that an ACK, whose URI is replaced alike, gets the INVITE's.
        let listener = self.number_of(&source.flow);
        let branch = self.branches.make_stateless(request, &marks, Some(Below::of(via)), listener);
        forwarded.push_via(&self.via_value(&target.flow, &branch))?;
        forwarded.frame_for(target.flow.transport);
        self.statistics.forwarded += 1;
        self.transmit(target.flow, forwarded.into_bytes());
        Ok(())
    }

    /// Answers a request without state (RFC 3261 §8.2.7): each time it comes, and with the same To tag.
    pub fn reply_stateless(
        &mut self,
        request: &Message,
        source: Source,
        status: Status,
        headers: &[(&str, &[u8])],
    ) -> Result<(), EndpointError> {
        let method = request.method().ok_or(EndpointError::Unusable)?;
        let via = request.via_top().map_err(|_| EndpointError::Unusable)?;
        let key = self.keys.server(request, &via, method).map_err(|_| EndpointError::Unusable)?;
        let tag = self.tag_of(key);
        let mut builder = ResponseBuilder::new(request, status).to_tag(&tag);
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        let response = builder.build_bytes()?;
        self.transmit(reply_flow(&via, source.flow), response);
        Ok(())
    }

    fn forward(&mut self, request: &mut Message, branch: &BranchText, flow: Flow) {
        if request.push_via(&self.via_value(&flow, branch)).is_ok() {
            request.frame_for(flow.transport);
            self.statistics.forwarded += 1;
            self.transmit(flow, request.bytes().to_vec());
        }
    }

    /// Whose the top Route is.
    fn own_route(&self, request: &Message) -> OwnRoute {
        let read = || {
            let Uri::Sip(uri) = request.routes().next()?.ok()?.uri().ok()? else { return None };
            Some(self.owner_of(&uri, request.call_id().ok()?))
        };
        read().unwrap_or(OwnRoute::NotOurs)
    }

    /// Whose a Route with this URI is, in the dialog of this Call-ID.
    fn owner_of(&self, uri: &SipUri<'_>, call_id: &[u8]) -> OwnRoute {
        if !self.is_us(&uri.host, uri.port) {
            return OwnRoute::NotOurs;
        }
        let ways = uri.params.find(PARAM).and_then(|value| self.signer.read(value, call_id));
        ways.map_or(OwnRoute::Bare, OwnRoute::Signed)
    }

    /// Where a request inside a dialog goes: the next Route or the request-URI if it is an address, and otherwise
    /// the way the peer was reached by when the dialog began. A private address that is not what we saw is a peer
    /// behind a NAT that does not know better.
    pub(crate) fn next_hop(&self, request: &Message, way: Flow) -> Flow {
        let route = request.routes().next().and_then(Result::ok);
        let text = route.map_or(request.uri_text(), |route| route.uri_text);
        let Ok(Uri::Sip(uri)) = Uri::parse(text) else { return way };
        let transport = wanted_transport(&uri, way.transport);
        // A name is not resolved here: the peer that we know is the one that gave the name.
        let Some(ip) = uri.host.ip() else { return way };
        let remote = SocketAddr::new(ip, uri.port.unwrap_or(transport.default_port()));
        if remote == way.remote || (is_private(ip) && ip != way.remote.ip()) || !is_one_host(ip) {
            return way;
        }
        // A connection ends at another port than its peer listens on; it is used while it is up.
        if transport.is_reliable() && transport == way.transport && ip == way.remote.ip() {
            return way;
        }
        // From the socket that the peer knows, if it can be.
        let is_usual = transport == way.transport && way.local.is_ipv4() == ip.is_ipv4();
        let other = if is_usual { None } else { self.local_for(transport, ip) };
        Flow { transport, local: other.unwrap_or(way.local), remote }
    }

    /// Which of our listeners a flow came in by, for a branch to name.
    fn number_of(&self, flow: &Flow) -> u8 {
        let is_it = |found: &Listener| found.transport == flow.transport && found.local == flow.local;
        let place = self.config.listeners.iter().position(is_it);
        place.and_then(|place| u8::try_from(place).ok()).unwrap_or(NO_LISTENER)
    }

    /// The socket to reach an address from.
    pub(crate) fn local_for(&self, transport: Transport, ip: IpAddr) -> Option<SocketAddr> {
        let fits = |local: &SocketAddr| local.is_ipv4() == ip.is_ipv4();
        let mut of_transport =
            self.config.listeners.iter().filter(|listener| listener.transport == transport);
        of_transport.find(|listener| fits(&listener.local)).map(|listener| listener.local)
    }

    /// The way back of a response whose branch shows that its request was forwarded from here without state.
    pub(super) fn way_back(&self, response: &Message, branch: &[u8]) -> Option<Flow> {
        let below = response.list(Name::Via).skip(1).find_map(Via::parse)?;
        let (Kind::Stateless, listener) = self.branches.read(branch, Some(below))? else { return None };
        let transport = Transport::read(below.transport)?;
        // We wrote `received` and `rport` there ourselves; `maddr` is not looked at.
        let ip = below.received().or(below.host.ip())?;
        let port = below.rport().flatten().or(below.port).unwrap_or(transport.default_port());
        // From the socket that the request came to (RFC 3581 §4); on a connection its far end tells which one.
        let listener = self.config.listeners.get(usize::from(listener));
        let came_in = listener.filter(|listener| listener.transport == transport);
        let local = came_in.map(|listener| listener.local).or_else(|| self.local_for(transport, ip))?;
        Some(Flow { transport, local, remote: SocketAddr::new(ip, port) })
    }

    /// A response that belongs to no transaction: forwarded if there is a way back (RFC 3261 §16.11), and dropped
    /// otherwise (RFC 6026 §7.3).
    pub(super) fn forward_response(&mut self, response: &mut Message, way: Option<Flow>) {
        let Some(flow) = way else {
            self.statistics.strays += 1;
            return;
        };
        response.pop_via();
        response.frame_for(flow.transport);
        self.statistics.responses_forwarded += 1;
        self.transmit(flow, response.bytes().to_vec());
    }
}

/// Whether a Route is a router's from before RFC 3261, which reads the request-URI and not the Route.
fn is_strict(route: &Address<'_>) -> bool {
    matches!(route.uri(), Ok(Uri::Sip(uri)) if !uri.is_loose())
}

fn wanted_transport(uri: &SipUri<'_>, usual: Transport) -> Transport {
    if uri.secure {
        return Transport::Tls;
    }
    match uri.params.find("transport").and_then(Transport::read) {
        Some(transport) => transport,
        // A URI that does not say means UDP (RFC 3263 §4.1), but a peer that came by a connection is left there.
        None if usual.is_reliable() => usual,
        None => Transport::Udp,
    }
}

/// Whether an address can be one peer's: nobody makes us send to everybody.
fn is_one_host(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// An IPv4 address may come dressed as an IPv6 one (RFC 5118 §4.9) and is looked at without that.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || ip.is_loopback() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether a request begins a dialog, so that a Record-Route makes sense (RFC 3261 §16.6 step 4).
pub(crate) fn begins_dialog(request: &Message) -> bool {
    matches!(request.method(), Some(Method::Invite | Method::Subscribe | Method::Refer))
        && request.to().is_ok_and(|to| to.tag().is_none())
}
