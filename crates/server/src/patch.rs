//! What a PATCH says about one field: leave it alone, clear it, or set it.

/// What a PATCH says about a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Absent: leave it alone.
    #[default]
    Keep,
    /// `null`: clear it.
    Clear,
    /// A new value.
    Set(T),
}

impl<T> Patch<T> {
    /// The value after the patch, for a field that may be empty.
    #[must_use]
    pub fn over(self, current: Option<T>) -> Option<T> {
        match self {
            Patch::Keep => current,
            Patch::Clear => None,
            Patch::Set(value) => Some(value),
        }
    }

    /// The value after the patch, for a field that has a default to go back to.
    #[must_use]
    pub fn over_or(self, current: T, default: T) -> T {
        match self {
            Patch::Keep => current,
            Patch::Clear => default,
            Patch::Set(value) => value,
        }
    }

    /// Whether the field was sent.
    pub const fn is_sent(&self) -> bool {
        !matches!(self, Patch::Keep)
    }
}
