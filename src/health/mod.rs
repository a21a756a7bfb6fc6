//! Health of backends: what is asked of them, and when the answers make one up or down.
//!
//! Probes are sent by the kernel, from the host's own address: a backend that passes is reachable from this host, which says nothing
//! about the SNAT addresses.

mod checker;
mod connection;
mod failure;
mod http;
mod settings;
mod state;
mod tcp;

pub use checker::{Checker, HealthEvent};
pub use failure::Failure;
pub use settings::{BadStatus, Probe, Settings, Start, StatusSet, Target};
pub use state::{Due, State};
