//! Status codes and the reason phrases that RFC 3261 §21 and its successors give them.

use std::fmt;

/// A response's status code, 100 to 699.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u16);

impl Status {
    /// 100 Trying.
    pub const TRYING: Status = Status(100);
    /// 180 Ringing.
    pub const RINGING: Status = Status(180);
    /// 200 OK.
    pub const OK: Status = Status(200);
    /// 400 Bad Request.
    pub const BAD_REQUEST: Status = Status(400);
    /// 408 Request Timeout.
    pub const REQUEST_TIMEOUT: Status = Status(408);
    /// 481 Call/Transaction Does Not Exist.
    pub const NO_SUCH_TRANSACTION: Status = Status(481);
    /// 487 Request Terminated.
    pub const REQUEST_TERMINATED: Status = Status(487);
    /// 500 Server Internal Error.
    pub const INTERNAL_ERROR: Status = Status(500);
    /// 503 Service Unavailable.
    pub const UNAVAILABLE: Status = Status(503);

    /// `None` outside 100 to 699.
    pub fn new(code: u16) -> Option<Status> {
        (100..700).contains(&code).then_some(Status(code))
    }

    /// A code that stands in our own source.
    pub(crate) const fn known(code: u16) -> Status {
        assert!(code >= 100 && code < 700);
        Status(code)
    }

    /// The number.
    pub fn code(self) -> u16 {
        self.0
    }

    /// The number as it stands on the wire.
    pub(crate) fn digits(self) -> [u8; 3] {
        // A status is below 1000.
        [self.0 / 100, self.0 / 10 % 10, self.0 % 10].map(|digit| b'0' + u8::try_from(digit).unwrap_or(0))
    }

    /// Whether more is to come (1xx).
    pub fn is_provisional(self) -> bool {
        self.0 < 200
    }

    /// Whether this ends the transaction (2xx and above).
    pub fn is_final(self) -> bool {
        self.0 >= 200
    }

    /// Whether this is a 2xx.
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.0)
    }

    /// Whether this is a 3xx.
    pub fn is_redirect(self) -> bool {
        (300..400).contains(&self.0)
    }

    /// The usual reason phrase, or the class's when the code has none.
    pub fn reason(self) -> &'static str {
        match self.0 {
            100 => "Trying",
            180 => "Ringing",
            181 => "Call Is Being Forwarded",
            182 => "Queued",
            199 => "Early Dialog Terminated",
            202 => "Accepted",
            204 => "No Notification",
            300 => "Multiple Choices",
            301 => "Moved Permanently",
            302 => "Moved Temporarily",
            305 => "Use Proxy",
            380 => "Alternative Service",
            400 => "Bad Request",
            401 => "Unauthorized",
            402 => "Payment Required",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            406 | 606 => "Not Acceptable",
            407 => "Proxy Authentication Required",
            408 => "Request Timeout",
            410 => "Gone",
            413 => "Request Entity Too Large",
            414 => "Request-URI Too Long",
            415 => "Unsupported Media Type",
            416 => "Unsupported URI Scheme",
            420 => "Bad Extension",
            421 => "Extension Required",
            422 => "Session Interval Too Small",
            423 => "Interval Too Brief",
            428 => "Use Identity Header",
            433 => "Anonymity Disallowed",
            436 => "Bad Identity-Info",
            480 => "Temporarily Unavailable",
            481 => "Call/Transaction Does Not Exist",
            482 => "Loop Detected",
            483 => "Too Many Hops",
            484 => "Address Incomplete",
            485 => "Ambiguous",
            486 => "Busy Here",
            487 => "Request Terminated",
            488 => "Not Acceptable Here",
            489 => "Bad Event",
            491 => "Request Pending",
            493 => "Undecipherable",
            500 => "Server Internal Error",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Server Time-out",
            505 => "Version Not Supported",
            513 => "Message Too Large",
            600 => "Busy Everywhere",
            603 => "Decline",
            604 => "Does Not Exist Anywhere",
            607 => "Unwanted",
            608 => "Rejected",
            other => match other / 100 {
                1 => "Session Progress",
                2 => "OK",
                3 => "Redirected",
                4 => "Request Failed",
                5 => "Server Failure",
                _ => "Global Failure",
            },
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
