//! The yardstick: frames from one interface to the other, straight on xsk-rs.
//!
//! Everything that the rings ask for is done, and nothing else: no counters, no parsing, no look at the bytes but to write the
//! two MAC addresses. What is slower than this is slower by what it does to packets.
#![allow(unsafe_code)] // ring calls and setsockopt

use crate::programs::{self, attach, enter, parse_mac, stay_on};
use anyhow::{Context, Result, anyhow};
use aya::maps::XskMap;
use clap::Args;
use std::os::fd::AsRawFd;
use xsk_rs::config::{BindFlags, LibxdpFlags, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

const BURST: usize = 64;
const RING: u32 = 2048;
const FRAMES: u32 = 16_384;

#[derive(Args)]
pub(crate) struct Forward {
    /// Namespace of both interfaces
    #[arg(long)]
    namespace: String,
    /// Interface and MAC address of the peer behind it
    #[arg(long, num_args = 2, value_names = ["IF", "MAC"])]
    first: Vec<String>,
    #[arg(long, num_args = 2, value_names = ["IF", "MAC"])]
    second: Vec<String>,
    #[arg(long, default_value_t = 1)]
    core: usize,
}

#[derive(Args)]
pub(crate) struct Pass {
    #[arg(long)]
    namespace: String,
    #[arg(long, num_args = 1..)]
    interfaces: Vec<String>,
}

impl Pass {
    pub(crate) fn run(&self, object: &[u8]) -> Result<()> {
        enter(&self.namespace)?;
        let mut attached = programs::load(object, &[])?;
        programs::program(&mut attached, "pass")?.load()?;
        for interface in &self.interfaces {
            programs::program(&mut attached, "pass")?.attach(interface, aya::programs::XdpMode::Driver)?;
        }
        println!("ready");
        loop {
            std::thread::park();
        }
    }
}

/// One side.
struct Side {
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completion: CompQueue,
    in_flight: usize,
    peer: [u8; 6],
}

impl Forward {
    pub(crate) fn run(&self, object: &[u8]) -> Result<()> {
        enter(&self.namespace)?;
        stay_on(self.core)?;
        let config = UmemConfig::builder()
            .frame_size(2048.try_into()?)
            .fill_queue_size((RING * 2).try_into()?)
            .comp_queue_size(RING.try_into()?)
            .build()?;
        let (umem, mut free) = Umem::new(config, FRAMES.try_into()?, false)?;
        let mut sides = [side(&umem, &self.first)?, side(&umem, &self.second)?];
        let mut programs = Vec::new();
        for (side, interface) in sides.iter_mut().zip([&self.first[0], &self.second[0]]) {
            let frames = free.split_off(free.len() - RING as usize * 2);
            // SAFETY: these frames are on no other ring.
            unsafe { side.fill.produce(&frames) };
            let mut ebpf = programs::load(object, &[])?;
            attach(&mut ebpf, "take", interface)?;
            let mut sockets = XskMap::try_from(ebpf.map_mut("SOCKETS").context("no map SOCKETS")?)?;
            sockets.set(0, side.rx.fd().as_raw_fd(), 0)?;
            programs.push(ebpf);
        }
        println!("ready");
        let mut burst = [FrameDesc::default(); BURST];
        loop {
            let [first, second] = &mut sides;
            let moved =
                forward(&umem, first, second, &mut free, &mut burst)? + forward(&umem, second, first, &mut free, &mut burst)?;
            if moved == 0 {
                sleep([first, second])?;
            }
        }
    }
}

fn side(umem: &Umem, of: &[String]) -> Result<Side> {
    let config = SocketConfig::builder()
        .rx_queue_size(RING.try_into()?)
        .tx_queue_size(RING.try_into()?)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP)
        .build();
    // SAFETY: program loading is inhibited, as a shared UMEM asks for.
    let (tx, rx, rings) = unsafe { Socket::new(config, umem, &of[0].parse()?, 0) }.with_context(|| of[0].clone())?;
    let (fill, completion) = rings.ok_or_else(|| anyhow!("{} is bound twice", of[0]))?;
    let budget = RING;
    // XDP_MAX_TX_SKB_BUDGET: one wakeup sends the whole ring, not 32 frames.
    // SAFETY: the value lives through the call and its size is given.
    unsafe { libc::setsockopt(rx.fd().as_raw_fd(), libc::SOL_XDP, 9, (&raw const budget).cast(), 4) };
    Ok(Side { tx, rx, fill, completion, in_flight: 0, peer: parse_mac(&of[1])? })
}

/// A burst from one side to the other; what does not fit is dropped.
fn forward(
    umem: &Umem,
    from: &mut Side,
    to: &mut Side,
    free: &mut Vec<FrameDesc>,
    burst: &mut [FrameDesc; BURST],
) -> Result<usize> {
    // SAFETY: every descriptor is on one ring, in `burst` or in `free`, and is moved between them.
    unsafe {
        while to.in_flight > 0 {
            let done = to.completion.consume(burst);
            free.extend_from_slice(&burst[..done]);
            to.in_flight -= done;
            if done < BURST {
                break;
            }
        }
        let count = from.rx.consume(burst);
        for frame in &mut burst[..count] {
            let mut data = umem.data_mut(frame);
            let bytes = data.contents_mut();
            bytes.copy_within(..6, 6);
            bytes[..6].copy_from_slice(&to.peer);
        }
        let sent = to.tx.produce(&burst[..count]);
        to.in_flight += sent;
        free.extend_from_slice(&burst[sent..count]);
        if to.in_flight > 0 && to.tx.needs_wakeup() {
            to.tx.wakeup()?;
        }
        let rest = free.len() - count.min(free.len());
        let filled = from.fill.produce(&free[rest..]);
        free.truncate(free.len() - filled);
        Ok(count)
    }
}

fn sleep(sides: [&mut Side; 2]) -> Result<()> {
    let mut fds = sides.map(|side| libc::pollfd { fd: side.rx.fd().as_raw_fd(), events: libc::POLLIN, revents: 0 });
    // SAFETY: pointer and length are of one array that lives through the call.
    unsafe { libc::poll(fds.as_mut_ptr(), 2, 10) };
    Ok(())
}
