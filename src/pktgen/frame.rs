//! Frames written in user space, the same as `write` of ends.bpf.c makes in the kernel.

use super::Order;
use super::plan::{FIRST_PORT, PORTS, Plan, Protocol};
use super::stamp::{self, STAMP};
use crate::conntrack::l4proto::udp::never_zero;
use crate::packet::tcp::flag;
use crate::packet::{checksum, ipv4, ipv6, tcp, udp};
use std::net::IpAddr;

/// First sequence numbers of both sides are 999, so an ACK at 1000 is right in either direction.
const FIRST: u32 = 999;

/// Writes frames of a plan.
#[derive(Debug)]
pub(super) struct Writer {
    plan: Plan,
    macs: [u8; 12],
    first: IpAddr,
    addresses: u32,
    random: u64,
}

impl Writer {
    pub(super) fn new(plan: Plan, to: [u8; 6], from: [u8; 6], seed: u64) -> Self {
        let mut macs = [0; 12];
        macs[..6].copy_from_slice(&to);
        macs[6..].copy_from_slice(&from);
        let (first, addresses) = plan.addresses();
        Self { plan, macs, first, addresses, random: seed }
    }

    /// Bytes of the frame with this number.
    pub(super) fn length(&self, order: &Order, sequence: u64) -> usize {
        let length = if order.opening { self.plan.smallest() } else { self.plan.pattern()[(sequence % 12) as usize] };
        length as usize
    }

    /// Writes headers and stamp; the bytes behind must be zeros.
    pub(super) fn write(&mut self, frame: &mut [u8], order: &Order, sequence: u64, time: u64) {
        let (l4, stamp) = (self.plan.l4(), self.plan.stamp());
        let (host, port) = self.client(order, sequence);
        let payload = frame.len() - l4;
        frame[..12].copy_from_slice(&self.macs);
        frame[12..stamp].fill(0);
        let addresses = self.write_ip(frame, host, payload);
        let header = &mut frame[l4..];
        header[..2].copy_from_slice(&port.to_be_bytes());
        header[2..4].copy_from_slice(&self.plan.vip.port().to_be_bytes());
        let check = match self.plan.protocol {
            Protocol::Udp => {
                header[udp::LENGTH..][..2].copy_from_slice(&(payload as u16).to_be_bytes());
                udp::CHECKSUM
            }
            Protocol::Tcp => {
                let syn = order.flags & flag::SYN != 0;
                header[tcp::SEQUENCE..][..4].copy_from_slice(&(FIRST + u32::from(!syn)).to_be_bytes());
                header[tcp::ACKNOWLEDGMENT..][..4].copy_from_slice(&(if syn { 0 } else { FIRST + 1 }).to_be_bytes());
                header[tcp::DATA_OFFSET] = 0x50;
                header[tcp::FLAGS] = order.flags;
                header[tcp::WINDOW..][..2].copy_from_slice(&[0xff; 2]);
                tcp::CHECKSUM
            }
        };
        stamp::write(&mut frame[stamp..], order.tag, sequence, time);
        let covered = checksum::sum(&frame[addresses..stamp + STAMP]) + checksum::pseudo_header(self.plan.number(), payload);
        let sum = !checksum::fold(covered);
        let sum = if self.plan.protocol == Protocol::Udp { never_zero(sum) } else { sum };
        frame[l4 + check..][..2].copy_from_slice(&sum.to_be_bytes());
    }

    /// Address, as its distance from the first one, and port of the client.
    fn client(&mut self, order: &Order, sequence: u64) -> (u32, u16) {
        if self.plan.flood {
            return (self.random() % self.addresses, FIRST_PORT + (self.random() % PORTS) as u16);
        }
        let flow = if order.opening { sequence as u32 } else { self.random() } % self.plan.flows;
        (flow % self.addresses, FIRST_PORT + (flow / self.addresses) as u16)
    }

    /// Ethernet's type and the IP header; the offset of its addresses.
    fn write_ip(&self, frame: &mut [u8], host: u32, payload: usize) -> usize {
        let l4 = self.plan.l4();
        let (header, at) = match (self.first, self.plan.vip.ip()) {
            (IpAddr::V4(first), IpAddr::V4(vip)) => {
                let at = 14 + ipv4::ADDRESSES;
                frame[12..14].copy_from_slice(&[0x08, 0x00]);
                frame[at..at + 4].copy_from_slice(&(first.to_bits() + host).to_be_bytes());
                frame[at + 4..at + 8].copy_from_slice(&vip.octets());
                (&mut frame[14..l4], at)
            }
            (IpAddr::V6(first), IpAddr::V6(vip)) => {
                let at = 14 + ipv6::ADDRESSES;
                frame[12..14].copy_from_slice(&[0x86, 0xdd]);
                frame[at..at + 16].copy_from_slice(&(first.to_bits() + u128::from(host)).to_be_bytes());
                frame[at + 16..at + 32].copy_from_slice(&vip.octets());
                let header = &mut frame[14..l4];
                header[0] = 0x60;
                header[ipv6::PAYLOAD_LENGTH..][..2].copy_from_slice(&(payload as u16).to_be_bytes());
                header[ipv6::NEXT_HEADER] = self.plan.number();
                header[ipv6::HOP_LIMIT] = 64;
                return at;
            }
            _ => unreachable!("Plan::new compares the families"),
        };
        header[0] = 0x45;
        header[ipv4::TOTAL_LENGTH..][..2].copy_from_slice(&((payload + ipv4::HEADER) as u16).to_be_bytes());
        header[ipv4::FRAGMENT..][..2].copy_from_slice(&ipv4::DONT_FRAGMENT.to_be_bytes());
        header[ipv4::TTL] = 64;
        header[ipv4::PROTOCOL] = self.plan.number();
        let sum = !checksum::fold(checksum::sum(header));
        header[ipv4::CHECKSUM..][..2].copy_from_slice(&sum.to_be_bytes());
        at
    }

    /// The upper half of xorshift64*: which flow is next, nothing that anybody must not guess.
    fn random(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}
