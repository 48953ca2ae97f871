//! Via (RFC 3261 §20.42, RFC 3581): the path that a request took and its response takes back.

use std::net::IpAddr;

use crate::scan::{Params, Scan, is_space, number};
use crate::uri::{Host, read_ip};

/// One Via value. `maddr` is deliberately not offered: a reply never goes to where a header says it should
/// (RFC 3261 §18.2.2 would have it so, and every open relay shows why not).
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, `TLS`, … as written.
    pub transport: &'a [u8],
    /// The host the sender says it is.
    pub host: Host<'a>,
    /// The port the sender says it listens on.
    pub port: Option<u16>,
    /// Host and port as written.
    pub sent_by: &'a [u8],
    /// `branch`, `received`, `rport` and others.
    pub params: Params<'a>,
    // What is asked for again and again.
    branch: Option<&'a [u8]>,
    received: Option<&'a [u8]>,
    rport: Option<&'a [u8]>,
}

/// What every branch made after RFC 3261 begins with (§8.1.1.7).
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

impl<'a> Via<'a> {
    /// Reads one value: `SIP/2.0/UDP host:port;params`, with white space wherever the grammar has it.
    pub fn parse(value: &'a [u8]) -> Option<Via<'a>> {
        let mut scan = Scan::new(value);
        if value.starts_with(b"SIP/2.0/") {
            // Nearly always it is written so.
            scan.advance(8);
            scan.space();
        } else {
            // Another version is for the request line to refuse: whoever sent it is still owed the answer.
            let protocol = scan.token()?;
            let is_sip = protocol.eq_ignore_ascii_case(b"SIP");
            if !is_sip || !scan.eat_spaced(b'/') || scan.token().is_none() || !scan.eat_spaced(b'/') {
                return None;
            }
        }
        let transport = scan.token()?;
        if !scan.peek().is_some_and(is_space) {
            return None;
        }
        scan.space();
        let start = scan.position();
        let host_text = if scan.peek() == Some(b'[') {
            let inside = scan.take_while(|byte| byte != b']');
            if !scan.eat(b']') {
                return None;
            }
            value.get(start..start + inside.len() + 1)?
        } else {
            scan.take_while(|byte| !is_space(byte) && !matches!(byte, b':' | b';'))
        };
        let host = Host::parse(host_text)?;
        let mut end = scan.position();
        let mut port = None;
        if scan.eat_spaced(b':') {
            port = Some(read_port(scan.take_while(|byte| byte.is_ascii_digit()))?);
            end = scan.position();
        }
        scan.space();
        let params = Params::of(scan.rest());
        let [branch, received, rport] = params.read(["branch", "received", "rport"])?;
        let sent_by = value.get(start..end)?;
        Some(Via { transport, host, port, sent_by, params, branch, received, rport })
    }

    /// The branch, with or without the magic cookie.
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.branch.filter(|branch| !branch.is_empty())
    }

    /// Whether the branch was made by an RFC 3261 element and names its transaction by itself.
    pub fn has_cookie(&self) -> bool {
        self.branch()
            .is_some_and(|branch| branch.len() > MAGIC_COOKIE.len() && branch.starts_with(MAGIC_COOKIE))
    }

    /// The address that the request came from, as the next hop noted it. IPv6 is taken with and without brackets
    /// (RFC 5118 §4.5).
    pub fn received(&self) -> Option<IpAddr> {
        let text = self.received?;
        let text = text.strip_prefix(b"[").and_then(|t| t.strip_suffix(b"]")).unwrap_or(text);
        read_ip(text)
    }

    /// RFC 3581: `None` when the sender did not ask, `Some(None)` when it asks, `Some(Some(port))` once it is filled.
    pub fn rport(&self) -> Option<Option<u16>> {
        self.rport.map(read_port)
    }
}

/// A port of 1 to 65535.
pub(crate) fn read_port(digits: &[u8]) -> Option<u16> {
    let value = number(digits, u64::from(u16::MAX))?;
    u16::try_from(value).ok().filter(|&port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(text: &str) -> Option<Via<'_>> {
        Via::parse(text.as_bytes())
    }

    #[test]
    fn white_space_may_stand_nearly_everywhere() {
        let via =
            via("SIP  / 2.0\r\n /  TCP     spindle.example.com :  5070  ;\r\n  branch  =   z9hG4bK9ikj8")
                .unwrap();
        assert_eq!((via.transport, via.port), (&b"TCP"[..], Some(5070)));
        assert_eq!(via.branch(), Some(&b"z9hG4bK9ikj8"[..]));
        assert!(via.has_cookie());
    }

    #[test]
    fn received_and_rport() {
        let asked =
            via("SIP/2.0/UDP [2001:db8::9]:5060;received=2001:db8::9:255;rport;branch=z9hG4bKx").unwrap();
        assert_eq!(asked.received(), Some("2001:db8::9:255".parse().unwrap()));
        assert_eq!(asked.rport(), Some(None));
        assert_eq!(asked.sent_by, b"[2001:db8::9]:5060");
        let filled = via("SIP/2.0/UDP h;rport=4711;received=[::1];branch=z9hG4bK").unwrap();
        assert_eq!(filled.rport(), Some(Some(4711)));
        assert!(!filled.has_cookie(), "a bare cookie names nothing");
    }

    #[test]
    fn what_is_no_via() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "HTTP/2.0/UDP h",
            "SIP/2.0/UDP h:0",
            "SIP/2.0/UDP h:70000",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP h;branch=\"x",
            "SIP/2.0/UDP 256.1.1.1",
            "SIP/2.0/UDP h x",
            "SIP/2.0/UDPh",
            // RFC 3261 §7.3.1: no parameter twice.
            "SIP/2.0/UDP h;branch=z9hG4bK1;branch=z9hG4bK2",
            "SIP/2.0/UDP h;branch=z9hG4bK1;Branch=z9hG4bK1",
            "SIP/2.0/UDP h;received=192.0.2.1;branch=z9hG4bK1;received=192.0.2.2",
            "SIP/2.0/UDP h;rport;branch=z9hG4bK1;rport=5060",
        ] {
            assert!(via(bad).is_none(), "{bad}");
        }
    }
}
