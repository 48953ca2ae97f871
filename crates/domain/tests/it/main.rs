//! Tests of `domain` against the outside: one binary, a file for each noun.

mod phone_numbers;
