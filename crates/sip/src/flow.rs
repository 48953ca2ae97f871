//! Where bytes come from and go to: addresses and transports, as values. The sockets are someone else's.

use std::fmt;
use std::net::SocketAddr;

/// What carries messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[expect(missing_docs, reason = "each variant is the transport of its name")]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    /// Whether it delivers by itself: then nothing is retransmitted (RFC 3261 §17).
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// As in a Via.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }

    /// As in a URI.
    pub(crate) fn as_param(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }

    /// Reads a Via's or a URI parameter's text, in any case.
    pub fn read(text: &[u8]) -> Option<Transport> {
        [Transport::Udp, Transport::Tcp, Transport::Tls]
            .into_iter()
            .find(|transport| text.eq_ignore_ascii_case(transport.as_str().as_bytes()))
    }

    /// The port that is meant when none is written (RFC 3261 §19.1.2).
    pub fn default_port(self) -> u16 {
        if self == Transport::Tls { 5061 } else { 5060 }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One way between us and a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Flow {
    /// What carries it.
    pub transport: Transport,
    /// Our end: which socket.
    pub local: SocketAddr,
    /// Their end.
    pub remote: SocketAddr,
}

impl Flow {
    /// The way over UDP.
    pub fn udp(local: SocketAddr, remote: SocketAddr) -> Flow {
        Flow { transport: Transport::Udp, local, remote }
    }
}

/// Where an input came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// The way it came.
    pub flow: Flow,
    /// Whether this peer is known (a trunk, an agent), by its address or otherwise. When unsure: `false`. Limits for
    /// strangers do not apply to a known peer; it is told what is wrong with a message that has no usable Via; an answer
    /// to it may be longer than what it sent; and it may use a dialog's signed Route from another address than the
    /// dialog's ends.
    pub is_known: bool,
}

/// Bytes to put on the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// The way to send them. On a connection that is gone, open a new one to the same address.
    pub flow: Flow,
    /// One whole message.
    pub bytes: Vec<u8>,
}
