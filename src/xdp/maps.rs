//! The maps of a loaded program: typed, and changed without a moment in which something that stays is not steered.

use super::targets::Entries;
use super::{MAX_QUEUES, SteerCounters, XdpError};
use crate::service::Protocol;
use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// Keys as `steer.bpf.c` lays them out: address and port in network byte order, protocol, a zero byte.
type ServiceKey4 = [u8; 8];
type ServiceKey6 = [u8; 20];

/// The maps, and what is in them.
pub(super) struct Maps {
    services4: HashMap<MapData, ServiceKey4, u8>,
    services6: HashMap<MapData, ServiceKey6, u8>,
    claims4: HashMap<MapData, [u8; 4], u16>,
    claims6: HashMap<MapData, [u8; 16], u16>,
    sockets: XskMap<MapData>,
    counts: PerCpuArray<MapData, u64>,
    held: Entries,
}

fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, XdpError> {
    let map = ebpf.take_map(name).ok_or(XdpError::NoMap(name))?;
    T::try_from(map).map_err(|source| XdpError::Map { action: "open", source })
}

impl Maps {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, XdpError> {
        Ok(Self {
            services4: take(ebpf, "SERVICES4")?,
            services6: take(ebpf, "SERVICES6")?,
            claims4: take(ebpf, "CLAIMS4")?,
            claims6: take(ebpf, "CLAIMS6")?,
            sockets: take(ebpf, "SOCKETS")?,
            counts: take(ebpf, "COUNTS")?,
            held: Entries::default(),
        })
    }

    pub(super) fn set_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), XdpError> {
        if queue >= MAX_QUEUES {
            return Err(XdpError::QueueTooHigh { queue });
        }
        self.sockets.set(queue, socket, 0).map_err(|source| XdpError::Map { action: "set a socket in", source })
    }

    /// Brings the maps to `wanted`. Adds before it removes, and changes what an address claims in one step, so that what stays is
    /// steered all the time. What an address claims comes after its ports, and goes before them: a port counts only while it is claimed.
    pub(super) fn apply(&mut self, wanted: Entries) -> Result<(), XdpError> {
        for service in wanted.services.difference(&self.held.services.clone()) {
            self.add_service(*service)?;
        }
        for (address, claims) in &wanted.claims {
            if self.held.claims.get(address) != Some(claims) {
                self.set_claims(*address, *claims)?;
            }
        }
        for address in self.held.claims.clone().into_keys().filter(|address| !wanted.claims.contains_key(address)) {
            self.remove_claims(address)?;
        }
        for service in self.held.services.clone().difference(&wanted.services) {
            self.remove_service(*service)?;
        }
        Ok(())
    }

    pub(super) fn counters(&self) -> Result<SteerCounters, XdpError> {
        let sum = |index: u32| match self.counts.get(&index, 0) {
            Ok(values) => Ok(values.iter().sum()),
            Err(source) => Err(XdpError::Map { action: "read", source }),
        };
        Ok(SteerCounters { redirected: sum(0)?, unserved: sum(1)?, passed: sum(2)? })
    }

    fn add_service(&mut self, service: (IpAddr, u16, Protocol)) -> Result<(), XdpError> {
        let (vip, port, protocol) = service;
        match vip {
            IpAddr::V4(vip) => self.services4.insert(service_key(vip.octets(), port, protocol), 1, 0),
            IpAddr::V6(vip) => self.services6.insert(service_key(vip.octets(), port, protocol), 1, 0),
        }
        .map_err(|source| XdpError::Map { action: "add a service to", source })?;
        self.held.services.insert(service);
        Ok(())
    }

    fn remove_service(&mut self, service: (IpAddr, u16, Protocol)) -> Result<(), XdpError> {
        let (vip, port, protocol) = service;
        match vip {
            IpAddr::V4(vip) => self.services4.remove(&service_key(vip.octets(), port, protocol)),
            IpAddr::V6(vip) => self.services6.remove(&service_key(vip.octets(), port, protocol)),
        }
        .map_err(|source| XdpError::Map { action: "remove a service from", source })?;
        self.held.services.remove(&service);
        Ok(())
    }

    fn set_claims(&mut self, address: IpAddr, claims: u16) -> Result<(), XdpError> {
        match address {
            IpAddr::V4(address) => self.claims4.insert(address.octets(), claims, 0),
            IpAddr::V6(address) => self.claims6.insert(address.octets(), claims, 0),
        }
        .map_err(|source| XdpError::Map { action: "add an address to", source })?;
        self.held.claims.insert(address, claims);
        Ok(())
    }

    fn remove_claims(&mut self, address: IpAddr) -> Result<(), XdpError> {
        match address {
            IpAddr::V4(address) => self.claims4.remove(&address.octets()),
            IpAddr::V6(address) => self.claims6.remove(&address.octets()),
        }
        .map_err(|source| XdpError::Map { action: "remove an address from", source })?;
        self.held.claims.remove(&address);
        Ok(())
    }
}

/// `KEY` is `ADDRESS` + 4.
fn service_key<const ADDRESS: usize, const KEY: usize>(vip: [u8; ADDRESS], port: u16, protocol: Protocol) -> [u8; KEY] {
    let mut key = [0; KEY];
    key[..ADDRESS].copy_from_slice(&vip);
    key[ADDRESS..ADDRESS + 2].copy_from_slice(&port.to_be_bytes());
    key[ADDRESS + 2] = protocol.number();
    key
}
