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
    /// Bytes of a frame unless the config says, where its driver wants more than its MTU does.
    pub(super) frame_size: Option<u32>,
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
        let frame_size = kernel::driver(&settings.name).is_ok_and(|driver| counts_kilobytes(&driver)).then_some(4096);
        let steering = attach(settings)?;
        Ok(Self { port, name: link.name, index: link.index, mtu: link.mtu, queues, frame_size, steering })
    }

    /// How the program is attached, in the words of the sockets.
    pub(super) fn attached(&self) -> Attached {
        match self.steering.mode() {
            AttachMode::Native => Attached::Native,
            AttachMode::Generic => Attached::Generic,
        }
    }
}

/// Drivers that tell their card the size of a zero-copy frame in whole kilobytes, rounded down (SRRCTL.BSIZEPKT of Intel's data sheets). Of a
/// frame of 2048 bytes, 256 of which are the kernel's, the card then uses 1024, and packets above that are lost.
fn counts_kilobytes(driver: &str) -> bool {
    matches!(driver, "igb" | "igc")
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
