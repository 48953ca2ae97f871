//! Routes: what is done with one call, with every reason. [`row`] is what the database gives to build them from.

pub mod row;
