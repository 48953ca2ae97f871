//! Stories about whole calls, on a simulated network in virtual time.
