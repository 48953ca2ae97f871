//! The clients against a local server that answers as it is told.

mod server;
mod twilio;
