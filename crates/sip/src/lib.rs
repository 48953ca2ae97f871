//! The SIP protocol, sans I/O: bytes and time in; bytes, deadlines and events out.

pub mod dialog;
pub mod digest;
pub mod edit;
pub mod endpoint;
pub mod flow;
pub mod header;
mod keyed;
pub mod limits;
mod lines;
mod message;
mod method;
pub mod number;
#[cfg(test)]
mod odd_messages;
mod parse;
mod print;
pub mod proxy;
mod scan;
mod slab;
mod status;
pub mod stream;
mod time;
mod transaction;
pub mod uri;
pub mod user_agent;
pub mod validate;
mod wheel;
mod work;

pub use edit::UnsafeText;
pub use flow::{Flow, Source, Transmit, Transport};
pub use header::name::Name;
pub use header::{Fault, HeaderError};
pub use keyed::Keys;
pub use message::{Header, Message};
pub use method::{Method, MethodSet};
pub use parse::{Flaw, ParseError};
pub use print::{RequestBuilder, ResponseBuilder};
pub use scan::{BadParam, Params};
pub use status::Status;
pub use time::Instant;
pub use transaction::{RINGING_MAX, TRYING_AFTER, Timers};
