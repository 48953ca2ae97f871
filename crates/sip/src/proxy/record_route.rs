//! The Record-Route parameter that lets any node forward what comes inside a dialog, also one just restarted.
//!
//! `;sb=` holds, signed: both peers' ways and who the caller is. It is bound to the dialog's Call-ID. What is inside
//! is no secret (addresses that stand in the Vias anyway), and nobody else can make one. Whoever has seen one can say it
//! again; what keeps that from opening a relay is looked at where requests are forwarded ([`crate::endpoint`]): the
//! request is inside a dialog and bears the caller's tag on one side; one from neither end nor a known peer may only
//! acknowledge or end the call, towards the other end. Both ends themselves can go on sending what they like to whom they
//! like inside what looks like their dialog, for as long as the keys live; who is asked about a dialog that it does not
//! know says 481.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use arrayvec::ArrayVec;

use crate::flow::{Flow, Transport};
use crate::keyed::{Key, Keys};

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

/// What is signed, and the signature.
const BYTES_MAX: usize = 2 * FLOW_BYTES_MAX + 12;
const TEXT_MAX: usize = 2 * BYTES_MAX;
type Bytes = ArrayVec<u8, BYTES_MAX>;

impl Signer {
    pub(crate) fn new(keys: &Keys) -> Signer {
        Signer { key: Key::derive(&keys.shared, "record-route") }
    }

    pub(crate) fn tag_hash(&self, tag: &[u8]) -> u32 {
        u32::try_from(self.key.mac(&[b"tag", tag]) >> 32).unwrap_or(0)
    }

    /// The parameter's value, in hexadecimal: some peers change the case of parameters, and digits survive that.
    pub(crate) fn sign(&self, ways: &Ways, call_id: &[u8]) -> ArrayVec<u8, TEXT_MAX> {
        let mut bytes = Bytes::new();
        write_flow(&mut bytes, &ways.caller);
        write_flow(&mut bytes, &ways.callee);
        bytes.extend(ways.caller_tag.to_be_bytes());
        let mac = self.key.mac(&[&bytes, call_id]);
        bytes.extend(mac.to_be_bytes());
        bytes.iter().flat_map(|&byte| HEX[usize::from(byte)]).collect()
    }

    /// What a parameter says, if we (or a node with our keys) made it for this Call-ID.
    pub(crate) fn read(&self, value: &[u8], call_id: &[u8]) -> Option<Ways> {
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
}

fn write_flow(bytes: &mut Bytes, flow: &Flow) {
    let transport = match flow.transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
        Transport::Tls => 2,
    };
    bytes.push(transport | u8::from(flow.local.is_ipv6()) << 2 | u8::from(flow.remote.is_ipv6()) << 3);
    for address in [flow.local, flow.remote] {
        match address.ip() {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
        bytes.extend(address.port().to_be_bytes());
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

/// The two digits of each byte.
static HEX: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    table
};

/// `None` for what is no hexadecimal, or longer than anything that we sign.
fn decode(text: &[u8]) -> Option<Bytes> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > BYTES_MAX {
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
        assert_eq!(signer.read(&value, b"call-1"), Some(ways()));
        assert_eq!(signer.read(&value.to_ascii_uppercase(), b"call-1"), Some(ways()));
        assert_eq!(signer.read(&value, b"call-2"), None, "another dialog");
        let restarted = Signer::new(&Keys { shared: [1; 32], unique: [3; 32] });
        assert_eq!(restarted.read(&value, b"call-1"), Some(ways()));
        for at in 0..value.len() {
            let mut forged = value.clone();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(signer.read(&forged, b"call-1"), None);
            assert_eq!(signer.read(&value[..at], b"call-1"), None);
        }
    }
}
