//! What others call us by: whether a host and a port in a message mean one of our listeners.

use std::net::IpAddr;

use super::Listener;
use crate::uri::Host;

/// A listener's `sent_by`, read once.
#[derive(Debug)]
pub(super) struct OwnName {
    ip: Option<IpAddr>,
    name: String,
    port: u16,
    default_port: u16,
}

impl OwnName {
    pub(super) fn of(listener: &Listener) -> OwnName {
        let (name, port) = split_sent_by(&listener.sent_by);
        let default_port = listener.transport.default_port();
        OwnName {
            ip: Host::parse(name.as_bytes()).and_then(|host| host.ip()),
            name: name.to_owned(),
            port: port.unwrap_or(default_port),
            default_port,
        }
    }

    pub(super) fn is(&self, host: &Host<'_>, port: Option<u16>) -> bool {
        self.port == port.unwrap_or(self.default_port) && self.is_host(host)
    }

    fn is_host(&self, host: &Host<'_>) -> bool {
        match host {
            Host::Name(name) => self.ip.is_none() && self.name.as_bytes().eq_ignore_ascii_case(name),
            other => self.ip.is_some() && self.ip == other.ip(),
        }
    }
}

/// `host:port`, `[v6]:port` or `host`.
fn split_sent_by(text: &str) -> (&str, Option<u16>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
        _ => (text, None),
    }
}
