//! The demonstration: what `switchboard demo` needs beyond the product itself.

pub mod agent;
