//! Health of backends.
