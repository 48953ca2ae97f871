//! Nouns and decisions: no I/O, no async, no clock, no randomness of its own.
