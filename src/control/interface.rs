//! Interfaces that weir serves: looked at, their queues counted, the XDP program attached.

use super::StartError;
use crate::config;
use crate::datapath::PortId;
use crate::io::xsk::{Attached, Mode};
use crate::kernel;
use crate::xdp::{AttachMode, Steering};
use tracing::{info, warn};

/// An interface with the program attached. Dropping it detaches the program: the kernel has the traffic again.
#[derive(Debug)]
pub(super) struct Interface {
    /// Its index in the config.
    pub(super) port: PortId,
    /// As the kernel knows it.
    pub(super) name: String,
    /// The kernel's number of it.
    pub(super) index: u32,
    /// Largest IP packet at the start, in bytes.
    pub(super) mtu: u32,
    /// Queues that are served, from queue 0 on.
    pub(super) queues: u32,
    /// The program.
    pub(super) steering: Steering,
}

impl Interface {
    /// Attaches the program to the interface of this name; nothing is steered yet.
    pub(super) fn open(port: PortId, settings: &config::Interface) -> Result<Self, StartError> {
        let link = kernel::usable_link(&settings.name)?;
        // Before the program is attached: see kernel::channels for what virtio does otherwise.
        if let Some((before, now)) = kernel::use_all_channels(&settings.name)? {
            info!("interface {}: {now} channels are in use, before {before}", settings.name);
        }
        let queues = served_queues(settings)?;
        let steering = attach(settings)?;
        Ok(Self { port, name: link.name, index: link.index, mtu: link.mtu, queues, steering })
    }

    /// How the program is attached, in the words of the sockets.
    pub(super) fn attached(&self) -> Attached {
        match self.steering.mode() {
            AttachMode::Native => Attached::Native,
            AttachMode::Generic => Attached::Generic,
        }
    }
}

fn served_queues(settings: &config::Interface) -> Result<u32, StartError> {
    let has = kernel::queues(&settings.name)?.count();
    let Some(wanted) = settings.queues else { return Ok(has) };
    if wanted > has {
        return Err(StartError::TooFewQueues { interface: settings.name.clone(), wanted, has });
    }
    if wanted < has {
        warn!(
            "interface {}: only {wanted} of {has} queues are served; what comes in on the others stays with the kernel",
            settings.name
        );
    }
    Ok(wanted)
}

/// Native, and with `mode = "auto"` generic where the driver refuses that.
fn attach(settings: &config::Interface) -> Result<Steering, StartError> {
    if settings.mode == Mode::Generic {
        return Ok(Steering::attach(&settings.name, AttachMode::Generic)?);
    }
    match Steering::attach(&settings.name, AttachMode::Native) {
        Err(error) if settings.mode == Mode::Auto && error.is_about_native_mode() => {
            warn!("{error}; going on in generic mode");
            Ok(Steering::attach(&settings.name, AttachMode::Generic)?)
        }
        attached => Ok(attached?),
    }
}
