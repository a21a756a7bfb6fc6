//! The probe `type = "tcp"`: a backend that accepts the connection passes. Nothing is sent, and the connection is reset.

use super::Failure;
use super::connection::Connection;

/// After an event: `Some` when the probe is over.
pub(super) fn advance(connection: &mut Connection) -> Option<Result<(), Failure>> {
    connection.is_established().map(|established| established.then_some(())).transpose()
}
