//! The poll loop of one core.
