//! The SIP protocol, sans I/O: bytes and time in; bytes, deadlines and events out.
