//! The server's integration tests: one binary, one module for each noun.
