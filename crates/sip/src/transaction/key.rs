//! What makes two messages belong to one transaction (RFC 3261 §17.1.3, §17.2.3), hashed under our key.
//!
//! 128 keyed bits stand for the values themselves: nobody without the key can make two collide, and a table needs no
//! memory for texts.

use crate::header::HeaderError;
use crate::header::name::Name;
use crate::keyed::{Key, Keys};
use crate::message::Message;
use crate::method::Method;

#[derive(Clone)]
pub(crate) struct TransactionKeys {
    high: Key,
    low: Key,
}

impl TransactionKeys {
    pub(crate) fn new(keys: &Keys) -> TransactionKeys {
        TransactionKeys {
            high: Key::derive(&keys.unique, "transaction high"),
            low: Key::derive(&keys.unique, "transaction low"),
        }
    }

    fn hash(&self, parts: &[&[u8]]) -> u128 {
        u128::from(self.high.mac(parts)) << 64 | u128::from(self.low.mac(parts))
    }

    /// The key of the transaction a request belongs to. An ACK belongs to its INVITE's; a CANCEL is a transaction of
    /// its own, and `method` INVITE asks for the one it cancels.
    pub(crate) fn server(&self, request: &Message, method: Method) -> Result<u128, HeaderError> {
        let via = request.via_top()?;
        let method: &[u8] = match method {
            Method::Ack | Method::Invite => b"INVITE",
            Method::Other => request.method_text(),
            other => other.as_str().as_bytes(),
        };
        let sent_by = via.sent_by.to_ascii_lowercase();
        let branch = via.branch().unwrap_or_default();
        if via.has_cookie() {
            return Ok(self.hash(&[b"server", branch, &sent_by, method]));
        }
        // Before RFC 3261 a branch named nothing. The request-URI and the To tag are left out: an ACK has another
        // tag than its INVITE, and the other parts tell calls apart.
        let from = request.from()?;
        let number = request.cseq()?.number.to_be_bytes();
        let tag = from.tag().unwrap_or_default();
        Ok(self.hash(&[b"old server", branch, &sent_by, method, tag, request.call_id()?, &number]))
    }

    /// The key of the client transaction that made this branch for this method.
    pub(crate) fn client(&self, branch: &[u8], method: &[u8]) -> u128 {
        self.hash(&[b"client", branch, method])
    }

    /// The same for requests that came by two ways (§8.2.2.2); only outside dialogs.
    pub(crate) fn merge(&self, request: &Message) -> Option<u128> {
        if request.to().ok()?.tag().is_some() {
            return None;
        }
        let cseq = request.cseq().ok()?;
        let number = cseq.number.to_be_bytes();
        let from = request.from().ok()?;
        let call_id = request.single(Name::CallId).ok()?;
        Some(self.hash(&[b"merge", from.tag()?, call_id, &number, cseq.method_text]))
    }
}
