//! The clients against a local server that answers as it is told.

#[cfg(test)]
mod server;
#[cfg(test)]
mod twilio;
