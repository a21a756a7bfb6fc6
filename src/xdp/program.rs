//! Loading a program of an object and attaching it: what every program of weir's needs.

use super::{AttachMode, XdpError, error};
use aya::programs::links::FdLink;
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};

/// Loads an object and its program `name` into the kernel, attached to nothing. `constant` is the name of a global of the object and its bytes.
pub fn load_program<const N: usize>(
    object: &[u8],
    name: &'static str,
    constant: Option<(&str, &[u8; N])>,
) -> Result<Ebpf, XdpError> {
    let mut loader = EbpfLoader::new();
    if let Some((global, bytes)) = constant {
        loader.override_global(global, bytes, true);
    }
    let mut ebpf = loader.load(object).map_err(error::load)?;
    program_named(&mut ebpf, name)?.load().map_err(error::verify)?;
    Ok(ebpf)
}

/// The program `name` of an object.
pub fn program_named<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, XdpError> {
    ebpf.program_mut(name).ok_or(XdpError::NoProgram(name))?.try_into().map_err(error::verify)
}

/// Attaches a loaded program to an interface of the calling thread's network namespace, until the link is dropped or the process dies.
pub fn attach_program(program: &mut Xdp, interface: &str, mode: AttachMode) -> Result<FdLink, XdpError> {
    let kernel_mode = match mode {
        AttachMode::Native => XdpMode::Driver,
        AttachMode::Generic => XdpMode::Skb,
    };
    let attached = program.attach(interface, kernel_mode).and_then(|link| program.take_link(link));
    let link = attached.map_err(|source| error::attach(interface, mode, source))?;
    // aya falls back to netlink where the kernel has no XDP links (before 5.9) or refuses one. Such an attachment would outlive a
    // crash, so it is not taken; dropping it detaches.
    FdLink::try_from(link).map_err(|_| XdpError::NoLink { interface: interface.to_owned(), mode })
}
