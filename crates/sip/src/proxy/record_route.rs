//! The Record-Route parameter that lets any node forward what comes inside a dialog, also one just restarted.
//!
//! `;sb=` holds, signed: both peers' ways and who the caller is. It is bound to the dialog's Call-ID. What is inside
//! is no secret (addresses that stand in the Vias anyway), but nobody else can make one, so it opens no relay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::flow::{Flow, Transport};
use crate::keyed::{Key, Keys};
use crate::message::Message;

/// The name of the parameter.
pub(crate) const PARAM: &str = "sb";

/// Both ways of a dialog, as seen when it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ways {
    pub(crate) caller: Flow,
    pub(crate) callee: Flow,
    /// Tells which way a request goes: the caller's tag, hashed.
    pub(crate) caller_tag: u32,
}

#[derive(Clone)]
pub(crate) struct Signer {
    key: Key,
}

/// Each flow: one byte of transport and families, two addresses, two ports.
const FLOW_BYTES_MAX: usize = 1 + 2 * (16 + 2);

impl Signer {
    pub(crate) fn new(keys: &Keys) -> Signer {
        Signer { key: Key::derive(&keys.shared, "record-route") }
    }

    pub(crate) fn tag_hash(&self, tag: &[u8]) -> u32 {
        u32::try_from(self.key.mac(&[b"tag", tag]) >> 32).unwrap_or(0)
    }

    /// The parameter's value.
    pub(crate) fn sign(&self, ways: &Ways, call_id: &[u8]) -> String {
        let mut bytes = Vec::with_capacity(2 * FLOW_BYTES_MAX + 12);
        write_flow(&mut bytes, &ways.caller);
        write_flow(&mut bytes, &ways.callee);
        bytes.extend_from_slice(&ways.caller_tag.to_be_bytes());
        let mac = self.key.mac(&[&bytes, call_id]);
        bytes.extend_from_slice(&mac.to_be_bytes());
        encode(&bytes)
    }

    /// What a parameter says, if we (or a node with our keys) made it for this Call-ID.
    pub(crate) fn read(&self, value: &[u8], call_id: &[u8]) -> Option<Ways> {
        if value.len() > 2 * (2 * FLOW_BYTES_MAX + 12) {
            return None;
        }
        let bytes = decode(value)?;
        let (signed, mac) = bytes.split_last_chunk::<8>()?;
        if u64::from_be_bytes(*mac) != self.key.mac(&[signed, call_id]) {
            return None;
        }
        let (caller, rest) = read_flow(signed)?;
        let (callee, rest) = read_flow(rest)?;
        let caller_tag = u32::from_be_bytes(rest.try_into().ok()?);
        Some(Ways { caller, callee, caller_tag })
    }

    /// The way a request of this dialog goes: to whom it did not come from.
    pub(crate) fn way_of(&self, ways: &Ways, request: &Message) -> Flow {
        let is_from_caller =
            request.from().is_ok_and(|from| self.tag_hash(from.tag().unwrap_or_default()) == ways.caller_tag);
        if is_from_caller { ways.callee } else { ways.caller }
    }
}

fn write_flow(bytes: &mut Vec<u8>, flow: &Flow) {
    let transport = match flow.transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
        Transport::Tls => 2,
    };
    bytes.push(transport | u8::from(flow.local.is_ipv6()) << 2 | u8::from(flow.remote.is_ipv6()) << 3);
    for address in [flow.local, flow.remote] {
        match address.ip() {
            IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
        }
        bytes.extend_from_slice(&address.port().to_be_bytes());
    }
}

fn read_flow(bytes: &[u8]) -> Option<(Flow, &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let transport = [Transport::Udp, Transport::Tcp, Transport::Tls].get(usize::from(kind & 3)).copied()?;
    let (local, rest) = read_address(rest, kind & 4 != 0)?;
    let (remote, rest) = read_address(rest, kind & 8 != 0)?;
    Some((Flow { transport, local, remote }, rest))
}

fn read_address(bytes: &[u8], is_v6: bool) -> Option<(SocketAddr, &[u8])> {
    let (ip, rest) = if is_v6 {
        let (octets, rest) = bytes.split_first_chunk::<16>()?;
        (IpAddr::V6(Ipv6Addr::from(*octets)), rest)
    } else {
        let (octets, rest) = bytes.split_first_chunk::<4>()?;
        (IpAddr::V4(Ipv4Addr::from(*octets)), rest)
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), rest))
}

/// Hexadecimal: some peers change the case of parameters, and digits survive that.
fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[a, b]| Some(digit(*a)? << 4 | digit(*b)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways() -> Ways {
        let flow = |transport, local: &str, remote: &str| Flow {
            transport,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        };
        Ways {
            caller: flow(Transport::Udp, "192.0.2.1:5060", "203.0.113.7:5080"),
            callee: flow(Transport::Tls, "[2001:db8::1]:5061", "[2001:db8::9]:40123"),
            caller_tag: 77,
        }
    }

    #[test]
    fn what_is_signed_is_read_and_nothing_else() {
        let signer = Signer::new(&Keys { shared: [1; 32], unique: [2; 32] });
        let value = signer.sign(&ways(), b"call-1");
        assert_eq!(signer.read(value.as_bytes(), b"call-1"), Some(ways()));
        assert_eq!(signer.read(value.to_ascii_uppercase().as_bytes(), b"call-1"), Some(ways()));
        assert_eq!(signer.read(value.as_bytes(), b"call-2"), None, "another dialog");
        let restarted = Signer::new(&Keys { shared: [1; 32], unique: [3; 32] });
        assert_eq!(restarted.read(value.as_bytes(), b"call-1"), Some(ways()));
        for at in 0..value.len() {
            let mut forged = value.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(signer.read(&forged, b"call-1"), None);
            assert_eq!(signer.read(&value.as_bytes()[..at], b"call-1"), None);
        }
    }
}
