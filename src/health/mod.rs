//! Health of backends: what is asked of them, when the answers make one up or down, and who of a pool takes connections then.
//!
//! Probes are sent by the kernel, from the host's own address: a backend that passes is reachable from this host, which says nothing
//! about the SNAT addresses.

mod agent;
mod body;
mod checker;
mod connection;
mod datagram;
mod dns;
mod exec;
mod failure;
mod http;
mod icmp;
mod running;
mod sessions;
mod settings;
mod standing;
mod state;
mod status_set;
mod tcp;
mod tls;
mod udp;
mod ward;

pub use body::SEARCHED;
pub use checker::{Checker, HealthEvent, TlsHandshakes};
pub use dns::{Dns, Name, Rcode, Record};
pub use failure::Failure;
pub use settings::{Http, Probe, Settings, Start, Target, Tls, Trust};
pub use standing::{Handshakes, Passive};
pub use state::{Due, State};
pub use status_set::{BadStatus, StatusSet};
pub use ward::{Look, News, Rules, Verdict, Ward, Watched};

use std::io::{self, ErrorKind};

/// The socket has no more for now; an interrupted call is made again at the next event or given up in time.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
