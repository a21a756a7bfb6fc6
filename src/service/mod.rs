//! Services, pools, backends, and the read-only snapshot of them that every worker loads once a burst.

mod access;
mod backend;
mod drain;
mod pool;
mod snapshot;
mod vip;
mod weight;

pub use access::Access;
pub use backend::{Backend, BackendId};
pub use drain::{AtDeadline, Datagrams, Drain};
pub use pool::Pool;
pub use snapshot::{Snapshot, SnatPool};
pub use vip::{Helper, Protocol, Service, ServiceId, Services, data_port};
pub use weight::Weight;
