//! What is inside a dialog goes onward without state: what is needed stands in the message, signed (RFC 3261 §16.11).
//!
//! Any node that shares our keys does the same with the same message, so a restart loses no call that is up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::input::{SourceNote, too_many_hops};
use super::machines::reply_flow;
use super::{Endpoint, EndpointError};
use crate::flow::{Flow, Source, Transport};
use crate::header::name::Name;
use crate::header::via::Via;
use crate::message::Message;
use crate::method::Method;
use crate::print::ResponseBuilder;
use crate::proxy::Target;
use crate::proxy::branch::{Below, BranchText, Kind, Marks};
use crate::proxy::record_route::{PARAM, Ways};
use crate::status::Status;
use crate::uri::{SipUri, Uri};
use crate::validate::Checked;

/// Whose a Route is.
enum OwnRoute {
    /// It names us, with our signature for this dialog.
    Signed(Ways),
    /// It names us without one: someone was told to come by us.
    Bare,
    /// Another's.
    NotOurs,
}

/// What forwarding along a Route needs to know of the request as it came.
pub(super) struct Onward {
    branch: BranchText,
    /// Who it is from, as a signed Route says it.
    sender: u32,
    /// Its top Route, which is its first.
    route: OwnRoute,
}

impl Endpoint {
    /// For a request whose top Via is yet to be told where it came from.
    pub(super) fn onward(&self, request: &Message, read: &Checked<'_>, note: &SourceNote) -> Option<Onward> {
        let route = self.owner_of(read.route.as_ref()?, read.essentials.call_id);
        if matches!(route, OwnRoute::NotOurs) {
            return None;
        }
        let marks = Marks::from(&read.essentials);
        let below = note.told_to(Below::of(read.essentials.via));
        Some(Onward {
            branch: self.branches.make_stateless(request, &marks, Some(below)),
            sender: self.signer.tag_hash(marks.from_tag),
            route,
        })
    }

    /// Takes our Routes away and, if one is signed for this dialog, forwards the request. False: it is not in a
    /// dialog that goes through us, and someone has to decide.
    pub(super) fn forward_in_dialog(
        &mut self,
        source: Source,
        request: &mut Message,
        onward: Onward,
    ) -> bool {
        let mut ways = None;
        let mut route = onward.route;
        // Two of ours stand there when the dialog changes transports on its way through us (RFC 5658).
        while !matches!(route, OwnRoute::NotOurs) {
            if let OwnRoute::Signed(found) = route {
                ways.get_or_insert(found);
            }
            request.pop_route();
            route = self.own_route(request);
        }
        let Some(ways) = ways else { return false };
        // Most were refused before; what may be for us when it can go no further is not, inside someone's dialog.
        if !request.decrement_max_forwards() {
            self.refuse(source, request, &too_many_hops());
            return true;
        }
        let flow = self.next_hop(request, ways.way_of(onward.sender));
        self.forward(request, &onward.branch, flow);
        true
    }

    /// Forwards a request without state to where the caller says, such as an ACK that [`super::Event::Ack`] brought.
    /// One that may go no further is not.
    pub fn forward_to(&mut self, request: &Message, flow: Flow) -> Result<(), EndpointError> {
        if !request.is_request() {
            return Err(EndpointError::Unusable);
        }
        let below = request.via_top().ok().map(Below::of);
        let branch = self.branches.make_stateless(request, &Marks::of(request), below);
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
            self.record_route(&mut forwarded, &marks, source.flow, target.flow)?;
        }
        // The branch is made from what came, so that an ACK, whose URI is replaced alike, gets the INVITE's.
        let branch = self.branches.make_stateless(request, &marks, Some(Below::of(via)));
        forwarded.push_via(&self.via_value(&target.flow, &branch))?;
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
        let local = self.local_for(transport, ip).unwrap_or(way.local);
        Flow { transport, local, remote }
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
        if self.branches.read(branch, Some(below)) != Some(Kind::Stateless) {
            return None;
        }
        let transport = Transport::read(below.transport)?;
        // We wrote `received` and `rport` there ourselves; `maddr` is not looked at.
        let ip = below.received().or(below.host.ip())?;
        let port = below.rport().flatten().or(below.port).unwrap_or(transport.default_port());
        let local = self.local_for(transport, ip)?;
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
        self.statistics.responses_forwarded += 1;
        self.transmit(flow, response.bytes().to_vec());
    }
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
