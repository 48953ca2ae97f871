//! Counts the bytes that are looked at, so that tests can hold us to linear work without a clock.
//!
//! Outside this crate's own tests it is nothing at all.

#[cfg(not(test))]
#[inline]
pub(crate) fn visited(_bytes: usize) {}

#[cfg(test)]
pub(crate) use counter::{take, visited};

#[cfg(test)]
mod counter {
    use std::cell::Cell;

    thread_local! {
        static VISITED: Cell<usize> = const { Cell::new(0) };
    }

    pub(crate) fn visited(bytes: usize) {
        VISITED.with(|count| count.set(count.get() + bytes));
    }

    /// What was counted on this thread since the last call.
    pub(crate) fn take() -> usize {
        VISITED.with(|count| count.replace(0))
    }
}
