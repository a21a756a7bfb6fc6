//! Services, pools, backends, and the read-only snapshot of them that every worker loads once a burst.

mod access;
mod backend;
mod limits;
mod drain;
mod exhausted;
mod pool;
mod shown;
mod snapshot;
mod vip;
mod weight;

pub use access::Access;
pub use backend::{Backend, BackendId};
pub use drain::{AtDeadline, Datagrams, Drain};
pub use exhausted::Exhausted;
pub use limits::{Ledger, Limit, Limits, OverLimit};
pub use pool::Pool;
pub use shown::Shown;
pub use snapshot::{Snapshot, SnatPool};
pub use vip::{Backup, Helper, Persistence, Protocol, Service, ServiceId, Services, data_port};
pub use weight::Weight;
