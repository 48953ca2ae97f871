//! Vendors: what each carrier truly sends and takes.
