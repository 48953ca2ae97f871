//! The branches that we put into our Vias: unique, recognisable as ours, and able to tell a loop.
//!
//! `z9hG4bK` · kind (1) · listener (2 hex digits) · loop hash (8) · unique (16) · seal (16). The listener is the one that
//! the request came in by, for its response to leave from. The seal is a MAC over all of it and over
//! the Via below ours, so that a response without a transaction is forwarded only along a path that we have taken
//! ourselves: nobody can make us relay to an address of their choice.

use std::net::IpAddr;
use std::ops::Range;

use crate::flow::Transport;
use crate::header::Essentials;
use crate::header::name::Name;
use crate::header::via::{MAGIC_COOKIE, Via};
use crate::keyed::{Key, Keys, Mac, hex};
use crate::message::Message;

const LENGTH: usize = 7 + 1 + 2 + 8 + 16 + 16;

/// A listener that is not known, or none.
pub(crate) const NO_LISTENER: u8 = u8::MAX;

const LISTENER: Range<usize> = 8..10;
const LOOP_HASH: Range<usize> = 10..18;
const UNIQUE: Range<usize> = 18..34;

/// One branch of ours.
pub(crate) type BranchText = [u8; LENGTH];

/// Whether a branch names a transaction, without which a response to it is nobody's (RFC 6026 §7.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Transaction = b't',
    Stateless = b'f',
}

/// What the requests of one call have in common, and the number that tells them apart.
#[derive(Clone, Copy)]
pub(crate) struct Marks<'a> {
    pub(crate) from_tag: &'a [u8],
    pub(crate) call_id: &'a [u8],
    number: [u8; 4],
}

impl<'a> Marks<'a> {
    /// Of a message that may lack them.
    pub(crate) fn of(request: &'a Message) -> Marks<'a> {
        Marks {
            from_tag: request.from().ok().and_then(|from| from.tag()).unwrap_or_default(),
            call_id: request.call_id().unwrap_or_default(),
            number: request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes(),
        }
    }
}

impl<'a> From<&Essentials<'a>> for Marks<'a> {
    fn from(read: &Essentials<'a>) -> Marks<'a> {
        let number = read.cseq.number.to_be_bytes();
        Marks { from_tag: read.from.tag().unwrap_or_default(), call_id: read.call_id, number }
    }
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
    pub(crate) fn make(&self, request: &Message, kind: Kind, unique: u64) -> BranchText {
        let loop_hash = with_routes(self.passage(request, &Marks::of(request)), request);
        let seal = self.seal_of(request.via_top().ok().map(Below::of));
        write(seal, kind, NO_LISTENER, loop_hash, unique)
    }

    /// The branch of a request that is forwarded without state: the same for each retransmission, and the same for an
    /// INVITE, its CANCEL and its ACK (RFC 3261 §16.11). It is made from the request as it came, but for what its top
    /// Via was told since, which is in `below`.
    pub(crate) fn make_stateless(
        &self,
        request: &Message,
        marks: &Marks<'_>,
        below: Option<Below<'_>>,
        listener: u8,
    ) -> BranchText {
        let passage = self.passage(request, marks);
        let unique = match &below {
            Some(below) => passage.clone().part(below.branch).part(below.sent_by).finish(),
            None => passage.clone().finish(),
        };
        let seal = self.seal_of(below);
        write(seal, Kind::Stateless, listener, with_routes(passage, request), unique)
    }

    /// Whether a branch is ours and was put on top of `below`; what kind it is and which listener it names.
    pub(crate) fn read(&self, branch: &[u8], below: Option<Via<'_>>) -> Option<(Kind, u8)> {
        let (text, seal) = split(branch)?;
        if *seal != hex(self.seal_of(below.map(Below::of)).part(text).finish()) {
            return None;
        }
        let listener = std::str::from_utf8(&text[LISTENER]).ok()?;
        Some((kind_of(text), u8::from_str_radix(listener, 16).ok()?))
    }

    /// Whether `request` has been here before with all that decides its way unchanged (§16.3 step 4, RFC 5393 §4.2:
    /// Via does not count).
    pub(crate) fn is_loop(
        &self,
        request: &Message,
        read: &Essentials<'_>,
        is_our_host: impl Fn(&Via<'_>) -> bool,
    ) -> bool {
        let mut below = request.list(Name::Via).skip(1).filter_map(Via::parse);
        let mut next = Some(read.via);
        // The same for all of them.
        let mut hash = None;
        while let Some(via) = next {
            next = below.next();
            if is_our_host(&via)
                && let Some(branch) = via.branch()
                && let Some((text, _)) = split(branch)
                && text[LOOP_HASH]
                    == *hash.get_or_insert_with(|| hash_text(self.loop_hash(request, &Marks::from(read))))
                && self.read(branch, next).is_some()
            {
                return true;
            }
        }
        false
    }

    fn loop_hash(&self, request: &Message, marks: &Marks<'_>) -> u32 {
        with_routes(self.passage(request, marks), request)
    }

    /// What decides the way of a request, as it came, but for its Routes. Neither the method nor the To tag counts: an
    /// INVITE, its CANCEL and its ACK share a branch.
    fn passage(&self, request: &Message, marks: &Marks<'_>) -> Mac {
        Mac::new(self.hash)
            .part(request.uri_text())
            .part(marks.from_tag)
            .part(marks.call_id)
            .part(&marks.number)
    }

    /// The seal's beginning: the meaning of the Via below, not its spelling, because some peers write it anew.
    fn seal_of(&self, below: Option<Below<'_>>) -> Mac {
        let mac = Mac::new(self.seal);
        let Some(below) = below else { return mac };
        let mac = mac.part(below.branch).part_in_any_case(below.sent_by);
        let mac = match below.received {
            None => mac.part(&[]),
            Some(IpAddr::V4(ip)) => mac.part(&ip.octets()),
            Some(IpAddr::V6(ip)) => mac.part(&ip.octets()),
        };
        mac.part(&below.rport.filter(|_| below.is_datagram).unwrap_or(0).to_be_bytes())
    }
}

/// What is sealed of the Via below ours, as it leaves.
#[derive(Clone, Copy)]
pub(crate) struct Below<'a> {
    pub(crate) branch: &'a [u8],
    pub(crate) sent_by: &'a [u8],
    pub(crate) received: Option<IpAddr>,
    pub(crate) rport: Option<u16>,
    /// On a connection the port only tells which one, and a peer that connects again still means the same request.
    pub(crate) is_datagram: bool,
}

impl<'a> Below<'a> {
    pub(crate) fn of(via: Via<'a>) -> Below<'a> {
        Below {
            branch: via.branch().unwrap_or_default(),
            sent_by: via.sent_by,
            received: via.received(),
            rport: via.rport().flatten(),
            is_datagram: Transport::read(via.transport) == Some(Transport::Udp),
        }
    }
}

/// The loop hash. Routes count (RFC 5393 §4.2): inside a dialog that comes by us twice only they tell the first time
/// from the second.
fn with_routes(passage: Mac, request: &Message) -> u32 {
    let mac = request.lines(Name::Route).fold(passage, Mac::part);
    u32::try_from(mac.finish() >> 32).unwrap_or(0)
}

/// Puts a branch's parts together and seals them.
fn write(seal: Mac, kind: Kind, listener: u8, loop_hash: u32, unique: u64) -> BranchText {
    let mut text = [0; LENGTH];
    text[..7].copy_from_slice(MAGIC_COOKIE);
    text[7] = kind as u8;
    text[LISTENER].copy_from_slice(&hex(u64::from(listener))[14..]);
    text[LOOP_HASH].copy_from_slice(&hash_text(loop_hash));
    text[UNIQUE].copy_from_slice(&hex(unique));
    let seal = seal.part(&text[..UNIQUE.end]).finish();
    text[UNIQUE.end..].copy_from_slice(&hex(seal));
    text
}

/// Whether a branch, if it is ours, was made for a request that was forwarded without state.
pub(crate) fn is_stateless(branch: &[u8]) -> bool {
    split(branch).is_some_and(|(text, _)| kind_of(text) == Kind::Stateless)
}

fn kind_of(text: &[u8]) -> Kind {
    if text.get(7) == Some(&(Kind::Stateless as u8)) { Kind::Stateless } else { Kind::Transaction }
}

/// Eight hexadecimal digits.
fn hash_text(hash: u32) -> [u8; 8] {
    let digits = hex(u64::from(hash));
    std::array::from_fn(|at| digits[8 + at])
}

/// What is sealed, and the seal, of a branch that looks like ours.
fn split(branch: &[u8]) -> Option<(&[u8], &[u8; 16])> {
    let is_ours = branch.len() == LENGTH && branch.starts_with(MAGIC_COOKIE);
    branch.split_last_chunk().filter(|_| is_ours)
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
        let read = |below: &'static [u8]| branches.read(&branch, Via::parse(below));
        assert_eq!(read(b"SIP/2.0/UDP  H ;branch=z9hG4bKx"), Some((Kind::Stateless, NO_LISTENER)));
        assert_eq!(read(b"SIP/2.0/UDP evil;branch=z9hG4bKx"), None);
        let branch = std::str::from_utf8(&branch).unwrap();
        let back = format!(
            "Via: SIP/2.0/UDP next;branch=z9hG4bKy\r\nVia: SIP/2.0/UDP me;branch={branch}\r\n{below}"
        );
        let is_loop = |uri: &str, vias: &str, is_us: bool| {
            let request = invite(uri, vias);
            branches.is_loop(&request, &request.essentials().unwrap(), |_| is_us)
        };
        assert!(is_loop("sip:one@h", &back, true));
        assert!(!is_loop("sip:two@h", &back, true), "another URI: a spiral");
        assert!(!is_loop("sip:one@h", &back, false), "not our host");
        let forged = back.replace(&branch[24..26], "zz");
        assert!(!is_loop("sip:one@h", &forged, true));
    }
}
