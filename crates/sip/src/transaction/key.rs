//! What makes two messages belong to one transaction (RFC 3261 §17.1.3, §17.2.3), hashed under our key.
//!
//! 128 keyed bits stand for the values themselves: nobody without the key can make two collide, and a table needs no
//! memory for texts.

use crate::header::via::Via;
use crate::header::{Essentials, HeaderError};
use crate::keyed::{Key, Keys, Mac};
use crate::message::Message;
use crate::method::Method;

#[derive(Clone)]
pub(crate) struct TransactionKeys {
    key: Key,
}

impl TransactionKeys {
    pub(crate) fn new(keys: &Keys) -> TransactionKeys {
        TransactionKeys { key: Key::derive(&keys.unique, "transactions") }
    }

    fn of(&self, purpose: &[u8]) -> Mac {
        Mac::new_wide(self.key).part(purpose)
    }

    /// The key of the transaction a request belongs to. An ACK belongs to its INVITE's; a CANCEL is a transaction of
    /// its own, and `method` INVITE asks for the one it cancels.
    pub(crate) fn server(
        &self,
        request: &Message,
        via: &Via<'_>,
        method: Method,
    ) -> Result<u128, HeaderError> {
        let method: &[u8] = match method {
            Method::Ack | Method::Invite => b"INVITE",
            Method::Other => request.method_text(),
            other => other.as_str().as_bytes(),
        };
        let branch = via.branch().unwrap_or_default();
        let of = |purpose| self.of(purpose).part(branch).part_in_any_case(via.sent_by).part(method);
        if via.has_cookie() {
            return Ok(of(b"server").finish_wide());
        }
        // Before RFC 3261 a branch named nothing. The request-URI and the To tag are left out: an ACK has another
        // tag than its INVITE, and the other parts tell calls apart.
        let from = request.from()?;
        let number = request.cseq()?.number.to_be_bytes();
        let tag = from.tag().unwrap_or_default();
        Ok(of(b"old server").part(tag).part(request.call_id()?).part(&number).finish_wide())
    }

    /// The key of the client transaction that made this branch for this method.
    pub(crate) fn client(&self, branch: &[u8], method: &[u8]) -> u128 {
        self.of(b"client").part(branch).part(method).finish_wide()
    }

    /// The same for requests that came by two ways (§8.2.2.2); only outside dialogs. The request-URI counts: a proxy in
    /// front of us may fork one request to two of our numbers.
    pub(crate) fn merge(&self, uri: &[u8], request: &Essentials<'_>) -> Option<u128> {
        if request.to.tag().is_some() {
            return None;
        }
        let Essentials { call_id, cseq, .. } = request;
        let mac = self.of(b"merge").part(uri).part(request.from.tag()?).part(call_id);
        Some(mac.part(&cseq.number.to_be_bytes()).part(cseq.method_text).finish_wide())
    }
}
