//! The admin socket: how the commands talk to a running daemon.
//!
//! A client connects to a unix socket, writes a [`Request`] as one line of JSON and reads one line of JSON, an [`Answer`], or for
//! lists one line each and an [`Answer::End`]. It may ask again on the same connection. Every client has a thread of its own, of
//! which there are few, so that one who reads slowly or writes garbage holds up neither packets nor the control thread.

mod answer;
mod client;
mod draining;
mod filter;
mod request;
mod server;
mod service;
mod socket;
mod tracking;
mod worker;

pub use answer::{
    Account, Answer, Backend, Connection, Connections, Control, Drop, Expectation, Explanation, Fates, Interface, Neighbour,
    Plan, PlannedStep, Pool, Queue, Status,
};
pub use client::{Client, ClientError};
pub use draining::{Draining, Override};
pub use filter::{AddressFilter, BadFilter, ConnectionFilter, NoAddress};
pub use request::{Flow, Request};
pub use server::{Desk, Limits, Output, Server};
pub use service::{Service, ServiceLimit, Sources};
pub use socket::bind;
pub use tracking::{ConnectionEvent, Share, Top};
pub use worker::{Bursts, Worker};

/// Where the socket is unless the config or `--socket` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/weir/weir.sock";

#[cfg(test)]
mod tests;
