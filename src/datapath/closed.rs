//! What follows when a connection has left the table, whoever took it out: the control thread, or a worker that needed its place.

use crate::conntrack::ConnectionView;
use crate::nat::Homes;
use crate::service::Snapshot;

/// Its backend has one connection less, and its SNAT port may be taken.
pub fn connection_closed(snapshot: &Snapshot, homes: Option<&Homes>, connection: &ConnectionView) {
    snapshot.connection_closed(connection);
    if let Some(homes) = homes {
        homes.release(connection);
    }
}
