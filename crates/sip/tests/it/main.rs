//! Stories about whole calls, on a simulated network in virtual time; and every odd message we could find or make.

mod calls;
mod chaos;
mod network;
mod story;
