//! Whether an interface is still there while packets are sent.

use super::{PktgenError, Place};
use crate::kernel::{Netlink, servable_link};

/// An interface, watched from within its namespace.
pub(super) struct Standing {
    netlink: Netlink,
    index: u32,
    interface: String,
}

impl Standing {
    pub(super) fn open(place: &Place) -> Result<Self, PktgenError> {
        place.inside(|| {
            let interface = place.interface.clone();
            Ok(Self { netlink: Netlink::open()?, index: servable_link(&interface)?.index, interface })
        })
    }

    /// # Errors
    /// It was deleted, moved away or set down.
    pub(super) fn check(&mut self) -> Result<(), PktgenError> {
        let links = self.netlink.links()?;
        let how = match links.iter().find(|link| link.index == self.index) {
            Some(link) if link.enabled => return Ok(()),
            Some(_) => "it was set down",
            None => "it was deleted or moved away",
        };
        Err(PktgenError::Gone { interface: self.interface.clone(), how })
    }
}
