//! The control thread: one mio loop for everything that is not a packet.

mod addresses;
mod audience;
mod complaints;
mod daemon;
mod departure;
mod desk;
mod draining;
mod effects;
mod error;
mod event_loop;
mod expiry;
mod explain;
mod health;
mod interface;
mod notify;
mod overrides;
mod placement;
mod plan;
mod questions;
mod registry;
mod reload;
mod retired;
mod start;
mod state_file;
mod status;
mod targets;
mod top;
mod wall_clock;
mod watch;
mod workers;

pub use error::StartError;
pub use event_loop::run;
pub use expiry::Expiry;
pub use registry::{OutOfIds, Registry, set_health};
pub use state_file::{Placed, StateError, StateFile};
pub use workers::OpenError;
