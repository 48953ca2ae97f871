//! Dialogs (RFC 3261 §12): what two user agents agree on so that they find each other again.

use crate::edit::UnsafeText;
use crate::header::name::Name;
use crate::header::{HeaderError, invalid};
use crate::limits::CSEQ_MAX;
use crate::lines::has_bad_uri_byte;
use crate::message::Message;
use crate::method::Method;
use crate::print::RequestBuilder;
use crate::transaction::one_line;
use crate::uri::Uri;

/// One side's view of a dialog.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dialog {
    call_id: Vec<u8>,
    /// Our own From value, tag and all.
    local: Vec<u8>,
    local_tag: Vec<u8>,
    /// Our own To value: theirs.
    remote: Vec<u8>,
    remote_tag: Vec<u8>,
    /// Their Contact: where requests go.
    target: Vec<u8>,
    /// The proxies to go through, the nearest first.
    routes: Vec<Vec<u8>>,
    /// The CSeq number of our last request, or of the INVITE.
    local_number: u32,
    /// The INVITE's, which its ACK repeats.
    invite_number: u32,
    remote_number: Option<u32>,
}

/// Why a message makes no dialog.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DialogError {
    /// A header cannot be used.
    Header(HeaderError),
    /// The Contact is missing.
    Incomplete,
}

impl std::fmt::Display for DialogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DialogError::Header(error) => write!(f, "no dialog: {error}"),
            DialogError::Incomplete => f.write_str("no dialog: the Contact is missing"),
        }
    }
}

impl std::error::Error for DialogError {}

impl From<HeaderError> for DialogError {
    fn from(error: HeaderError) -> DialogError {
        DialogError::Header(error)
    }
}

impl Dialog {
    /// The caller's view, from a response (§12.1.2). Old callees put no tag into To; theirs is empty then.
    pub fn from_answer(response: &Message) -> Result<Dialog, DialogError> {
        let mut routes = routes(response);
        routes.reverse();
        check_routes(&routes)?;
        Dialog::of_answer(response, contact(response)?, routes)
    }

    /// The same for an answer whose Contact or Record-Route cannot be used: good for an ACK and a BYE to where the
    /// INVITE went.
    pub(crate) fn from_answer_of(response: &Message, target: &[u8]) -> Result<Dialog, DialogError> {
        let mut routes = routes(response);
        routes.reverse();
        if check_routes(&routes).is_err() {
            routes.clear();
        }
        Dialog::of_answer(response, target.to_vec(), routes)
    }

    fn of_answer(response: &Message, target: Vec<u8>, routes: Vec<Vec<u8>>) -> Result<Dialog, DialogError> {
        let number = response.cseq()?.number;
        Ok(Dialog {
            call_id: response.call_id()?.to_vec(),
            local: one_line(response.single(Name::From)?).into_owned(),
            local_tag: response.from()?.tag().unwrap_or_default().to_vec(),
            remote: one_line(response.single(Name::To)?).into_owned(),
            remote_tag: response.to()?.tag().unwrap_or_default().to_vec(),
            target,
            routes,
            local_number: number,
            invite_number: number,
            remote_number: None,
        })
    }

    /// The callee's view, from the request and the tag that our answers to it carry (§12.1.1).
    pub fn from_request(request: &Message, tag: &[u8]) -> Result<Dialog, DialogError> {
        let number = request.cseq()?.number;
        let routes = routes(request);
        check_routes(&routes)?;
        let mut local = one_line(request.single(Name::To)?).into_owned();
        local.extend_from_slice(b";tag=");
        local.extend_from_slice(tag);
        Ok(Dialog {
            call_id: request.call_id()?.to_vec(),
            local,
            local_tag: tag.to_vec(),
            remote: one_line(request.single(Name::From)?).into_owned(),
            remote_tag: request.from()?.tag().unwrap_or_default().to_vec(),
            target: contact(request)?,
            routes,
            local_number: 0,
            invite_number: number,
            remote_number: Some(number),
        })
    }

    /// The Call-ID.
    pub fn call_id(&self) -> &[u8] {
        &self.call_id
    }

    /// Where the other side is reached, as a URI.
    pub fn target(&self) -> &[u8] {
        &self.target
    }

    /// Whether a request from the other side belongs here.
    pub fn is_of(&self, request: &Message) -> bool {
        request.call_id() == Ok(&self.call_id)
            && request.to().is_ok_and(|to| to.tag() == Some(&self.local_tag))
            && request.from().is_ok_and(|from| from.tag().unwrap_or_default() == self.remote_tag)
    }

    /// Whether both are views of the same dialog, by its identifiers.
    pub fn is_same_dialog(&self, other: &Dialog) -> bool {
        self.call_id == other.call_id
            && self.local_tag == other.local_tag
            && self.remote_tag == other.remote_tag
    }

    /// Notes a request of the other side; false if it comes out of order and is owed a 500 (§12.2.2).
    pub fn note_request(&mut self, request: &Message) -> bool {
        let Ok(cseq) = request.cseq() else { return false };
        if cseq.method == Method::Ack {
            return true;
        }
        let in_order = self.remote_number.is_none_or(|last| cseq.number > last);
        if in_order {
            self.remote_number = Some(cseq.number);
        }
        in_order
    }

    /// A re-INVITE or UPDATE that is accepted may move the other side (§12.2.2). One that is refused changes nothing.
    pub fn refresh(&mut self, request: &Message) {
        if let Ok(target) = contact(request) {
            self.target = target;
        }
    }

    /// A request to the other side (§12.2.1.1). Contact, if it needs one, is the caller's to add; Via is the
    /// endpoint's.
    pub fn request(&mut self, method: Method) -> RequestBuilder {
        let number = self.next_number();
        if method == Method::Invite {
            self.invite_number = number;
        }
        self.build(method, number)
    }

    /// The CSeq number of our next request.
    pub(crate) fn next_number(&mut self) -> u32 {
        self.local_number = self.local_number.saturating_add(1).min(CSEQ_MAX);
        self.local_number
    }

    /// The ACK for a 2xx (§13.2.2.4).
    pub fn ack(&self) -> Result<Message, UnsafeText> {
        self.build(Method::Ack, self.invite_number).build()
    }

    fn build(&self, method: Method, number: u32) -> RequestBuilder {
        // §12.2.1.1: a strict router (one without `lr`) takes the request-URI's place, and the target goes last.
        let first_is_strict = self.routes.first().is_some_and(|route| !is_loose(route));
        let (uri, routes): (Vec<u8>, Vec<Vec<u8>>) = if first_is_strict {
            let uri = crate::header::address::Address::parse(&self.routes[0])
                .map_or_else(|| self.target.clone(), |address| address.uri_text.to_vec());
            let last = [b"<".as_slice(), &self.target, b">"].concat();
            (uri, self.routes[1..].iter().cloned().chain([last]).collect())
        } else {
            (self.target.clone(), self.routes.clone())
        };
        let mut builder = RequestBuilder::new(method, uri).header("Max-Forwards", "70");
        for route in routes {
            builder = builder.header("Route", one_line(&route));
        }
        builder
            .header("From", &self.local)
            .header("To", &self.remote)
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{number} {method}"))
    }
}

fn is_loose(route: &[u8]) -> bool {
    crate::header::address::Address::parse(route)
        .and_then(|address| address.uri().ok())
        .is_some_and(|uri| matches!(uri, Uri::Sip(uri) if uri.is_loose()))
}

/// The Contact's URI, which becomes the request-URI of what follows: one that cannot stand there makes no dialog.
fn contact(message: &Message) -> Result<Vec<u8>, DialogError> {
    let contact = message.contacts().next().ok_or(DialogError::Incomplete)??;
    if is_writable(contact.uri_text) && !contact.is_star() {
        Ok(contact.uri_text.to_vec())
    } else {
        Err(invalid(Name::Contact).into())
    }
}

fn routes(message: &Message) -> Vec<Vec<u8>> {
    message.list(Name::RecordRoute).map(<[u8]>::to_vec).collect()
}

/// A strict router's URI becomes the request-URI, too.
fn check_routes(routes: &[Vec<u8>]) -> Result<(), DialogError> {
    let first = routes.first().filter(|route| !is_loose(route));
    let uri = first.and_then(|route| crate::header::address::Address::parse(route));
    let is_good = uri.is_none_or(|address| is_writable(address.uri_text));
    if is_good { Ok(()) } else { Err(invalid(Name::RecordRoute).into()) }
}

fn is_writable(uri: &[u8]) -> bool {
    !uri.is_empty() && !has_bad_uri_byte(uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Fault;

    /// Found by fuzzing: such a dialog could never send anything, not even the BYE to be rid of it.
    #[test]
    fn a_contact_that_cannot_be_written_makes_no_dialog() {
        let answer = Message::parse(
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\
              Call-ID: x\r\nCSeq: 1 INVITE\r\nContact: \0\r\n\r\n",
        )
        .unwrap();
        let fault = HeaderError { name: Name::Contact, fault: Fault::Invalid };
        for contact in [&b"\0"[..], b"<<sip:a@b>", b"sip:a@b>"] {
            let mut answer = answer.clone();
            answer.set(Name::Contact, contact).unwrap();
            assert_eq!(Dialog::from_answer(&answer), Err(DialogError::Header(fault)));
            assert_eq!(Dialog::from_request(&answer, b"t"), Err(DialogError::Header(fault)));
        }
    }

    /// `*` is for REGISTER; nobody is reached there.
    #[test]
    fn a_star_makes_no_dialog_and_moves_nobody() {
        let with = |contact: &str| {
            let text = format!(
                "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n\
                 Call-ID: x\r\nCSeq: 1 INVITE\r\nContact: {contact}\r\n\r\n"
            );
            Message::parse(text.as_bytes()).unwrap()
        };
        assert!(Dialog::from_request(&with("*"), b"t").is_err());
        let mut dialog = Dialog::from_request(&with("<sip:a@h>"), b"t").unwrap();
        dialog.refresh(&with("*"));
        assert_eq!(dialog.target(), b"sip:a@h");
        dialog.refresh(&with("<sip:a@i>"));
        assert_eq!(dialog.target(), b"sip:a@i");
    }

    /// Nor can one whose first proxy is a strict router that cannot be written.
    #[test]
    fn a_route_that_cannot_be_written_makes_no_dialog() {
        let answer = Message::parse(
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\
              Call-ID: x\r\nCSeq: 1 INVITE\r\nContact: <sip:c@d>\r\nRecord-Route: <sip:\x01@p>\r\n\r\n",
        )
        .unwrap();
        let fault = HeaderError { name: Name::RecordRoute, fault: Fault::Invalid };
        assert_eq!(Dialog::from_answer(&answer), Err(DialogError::Header(fault)));
        assert_eq!(Dialog::from_request(&answer, b"t"), Err(DialogError::Header(fault)));
        let dialog = Dialog::from_answer_of(&answer, b"sip:x@y").unwrap();
        assert_eq!(dialog.ack().unwrap().uri_text(), b"sip:x@y");
    }
}
