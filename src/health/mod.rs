//! Health of backends: what is asked of them, and when the answers make one up or down.

mod settings;

pub use settings::{BadStatus, Probe, Settings, Start, StatusSet, Target};
