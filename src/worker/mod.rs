//! The poll loop of one core: bursts in, fates out, packets that wait for a neighbour, sleep when there is nothing to do.

mod burst_times;
mod clock;
mod gather;
mod idle;
mod orders;
mod pending;
mod pipeline;
mod resolver;
mod rounds;
mod thread;

pub use burst_times::BurstTimes;
pub use clock::Monotonic;
pub use idle::{Idle, Next, WhenIdle};
pub use orders::Orders;
pub use pipeline::{Balancer, Pipeline};
pub use resolver::{Resolver, Unresolved};
pub use rounds::{Round, Rounds, Shared};
pub use thread::{StartError, Worker, WorkerSettings};

#[cfg(test)]
mod tests;
