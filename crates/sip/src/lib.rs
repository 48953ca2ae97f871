//! The SIP protocol, sans I/O: bytes and time in; bytes, deadlines and events out.

pub mod edit;
pub mod header;
pub mod limits;
mod lines;
mod message;
mod method;
pub mod number;
mod parse;
mod print;
mod scan;
mod status;
mod time;
pub mod uri;
mod work;

pub use edit::UnsafeText;
pub use header::name::Name;
pub use header::{Fault, HeaderError};
pub use message::{Header, Message};
pub use method::{Method, MethodSet};
pub use parse::{Flaw, ParseError};
pub use print::{RequestBuilder, ResponseBuilder};
pub use scan::{BadParam, Params};
pub use status::Status;
pub use time::Instant;
