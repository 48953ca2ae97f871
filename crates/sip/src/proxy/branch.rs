//! The branches that we put into our Vias: unique, recognisable as ours, and able to tell a loop.
//!
//! `z9hG4bK` · kind (1) · loop hash (8 hex digits) · unique (16) · seal (16). The seal is a MAC over all of it and over
//! the Via below ours, so that a response without a transaction is forwarded only along a path that we have taken
//! ourselves: nobody can make us relay to an address of their choice.

use std::net::IpAddr;

use crate::header::name::Name;
use crate::header::via::{MAGIC_COOKIE, Via};
use crate::keyed::{Key, Keys};
use crate::message::Message;

const LENGTH: usize = 7 + 1 + 8 + 16 + 16;

/// Whether a branch names a transaction, without which a response to it is nobody's (RFC 6026 §7.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Transaction = b't',
    Stateless = b'f',
}

#[derive(Clone)]
pub(crate) struct Branches {
    seal: Key,
    hash: Key,
}

impl Branches {
    /// All nodes share the keys: a response may come to another one than the request left from.
    pub(crate) fn new(keys: &Keys) -> Branches {
        Branches {
            seal: Key::derive(&keys.shared, "branch seal"),
            hash: Key::derive(&keys.shared, "branch hash"),
        }
    }

    /// A branch for forwarding `request`, as it came: its top Via is the one below ours, and its URI is what would
    /// come again in a loop.
    pub(crate) fn make(&self, request: &Message, kind: Kind, unique: u64) -> String {
        self.make_with(self.loop_hash(request), request, kind, unique)
    }

    /// The same for a request whose Routes were taken away since it came; `loop_hash` was taken before.
    pub(crate) fn make_with(&self, loop_hash: u32, request: &Message, kind: Kind, unique: u64) -> String {
        let kind = char::from(kind as u8);
        let text = format!("z9hG4bK{kind}{loop_hash:08x}{unique:016x}");
        let seal = self.seal(text.as_bytes(), request.via_top().ok());
        format!("{text}{seal:016x}")
    }

    /// What makes the branch of a request that is forwarded without state: the same for each retransmission, and the
    /// same for an INVITE, its CANCEL and its ACK (RFC 3261 §16.11).
    pub(crate) fn stateless_unique(&self, request: &Message) -> u64 {
        let via = request.via_top().ok();
        let number = request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
        self.hash.mac(&[
            via.and_then(|via| via.branch()).unwrap_or_default(),
            via.map(|via| via.sent_by).unwrap_or_default(),
            request.from().ok().and_then(|from| from.tag()).unwrap_or_default(),
            request.call_id().unwrap_or_default(),
            &number,
            request.uri_text(),
        ])
    }

    /// Whether a branch is ours and was put on top of `below`, and what kind it is.
    pub(crate) fn read(&self, branch: &[u8], below: Option<Via<'_>>) -> Option<Kind> {
        let (text, seal) = split(branch)?;
        if seal != format!("{:016x}", self.seal(text, below)).as_bytes() {
            return None;
        }
        Some(if text[7] == Kind::Stateless as u8 { Kind::Stateless } else { Kind::Transaction })
    }

    /// Whether `request` has been here before with all that decides its way unchanged (§16.3 step 4, RFC 5393 §4.2:
    /// Via does not count).
    pub(crate) fn is_loop(&self, request: &Message, is_our_host: impl Fn(&Via<'_>) -> bool) -> bool {
        let mut hash = None;
        let mut vias = request.vias().filter_map(Result::ok).peekable();
        while let Some(via) = vias.next() {
            if is_our_host(&via)
                && let Some(branch) = via.branch()
                && let Some((text, _)) = split(branch)
            {
                let hash = hash.get_or_insert_with(|| format!("{:08x}", self.loop_hash(request)));
                if &text[8..16] == hash.as_bytes() && self.read(branch, vias.peek().copied()).is_some() {
                    return true;
                }
            }
        }
        false
    }

    /// What decides the way of a request, as it came. Routes count (RFC 5393 §4.2): inside a dialog that comes by us
    /// twice only they tell the first time from the second. Neither the method nor the To tag counts: an INVITE, its
    /// CANCEL and its ACK share a branch.
    pub(crate) fn loop_hash(&self, request: &Message) -> u32 {
        let number = request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![
            request.uri_text(),
            request.from().ok().and_then(|from| from.tag()).unwrap_or_default(),
            request.call_id().unwrap_or_default(),
            &number,
        ];
        parts.extend(request.lines(Name::Route));
        u32::try_from(self.hash.mac(&parts) >> 32).unwrap_or(0)
    }

    /// Over the meaning of the Via below, not its spelling: some peers write it anew.
    fn seal(&self, text: &[u8], below: Option<Via<'_>>) -> u64 {
        let Some(via) = below else { return self.seal.mac(&[text]) };
        let received = via.received().map_or(Vec::new(), |ip| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        });
        let rport = via.rport().flatten().unwrap_or(0).to_be_bytes();
        let sent_by = via.sent_by.to_ascii_lowercase();
        self.seal.mac(&[text, via.branch().unwrap_or_default(), &sent_by, &received, &rport])
    }
}

fn split(branch: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_ours = branch.len() == LENGTH && branch.starts_with(MAGIC_COOKIE);
    is_ours.then(|| branch.split_at(LENGTH - 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite(uri: &str, vias: &str) -> Message {
        let text = format!(
            "INVITE {uri} SIP/2.0\r\n{vias}From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n"
        );
        Message::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_loop_is_told_from_a_spiral_and_a_forgery() {
        let branches = Branches::new(&Keys { shared: [1; 32], unique: [2; 32] });
        let below = "Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\n";
        let branch = branches.make(&invite("sip:one@h", below), Kind::Stateless, 7);
        let read = |below: &'static [u8]| branches.read(branch.as_bytes(), Via::parse(below));
        assert_eq!(read(b"SIP/2.0/UDP  H ;branch=z9hG4bKx"), Some(Kind::Stateless));
        assert_eq!(read(b"SIP/2.0/UDP evil;branch=z9hG4bKx"), None);
        let back = format!(
            "Via: SIP/2.0/UDP next;branch=z9hG4bKy\r\nVia: SIP/2.0/UDP me;branch={branch}\r\n{below}"
        );
        assert!(branches.is_loop(&invite("sip:one@h", &back), |_| true));
        assert!(!branches.is_loop(&invite("sip:two@h", &back), |_| true), "another URI: a spiral");
        assert!(!branches.is_loop(&invite("sip:one@h", &back), |_| false), "not our host");
        let forged = back.replace(&branch[24..26], "zz");
        assert!(!branches.is_loop(&invite("sip:one@h", &forged), |_| true));
    }
}
