//! The control thread: one mio loop for everything that is not a packet.

mod state_file;

pub use state_file::{Placed, StateError, StateFile};
