//! `[snat]`

use super::problems::{Located, Problems};
use crate::config::raw::Raw;
use crate::config::value::{address, port_range};
use crate::config::{Place, Problem};
use crate::service::SnatPool;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};

/// Ports below 1024 are left to the host: a SNAT address may be one that it uses itself.
const DEFAULT_PORTS: RangeInclusive<u16> = 1024..=65535;

#[derive(Debug)]
pub(super) struct Checked {
    /// Addresses that are fit for it.
    pub(super) addresses: Vec<Located<IpAddr>>,
    /// Where further addresses could be written; `None` when there is no `[snat]`.
    pub(super) list: Option<Range<usize>>,
    /// Some addresses were refused: which families are there cannot be told.
    pub(super) incomplete: bool,
    ports: RangeInclusive<u16>,
}

impl Checked {
    pub(super) fn pool(&self) -> SnatPool {
        let addresses = || self.addresses.iter().map(|address| address.value);
        SnatPool {
            v4: addresses().filter_map(|address| if let IpAddr::V4(v4) = address { Some(v4) } else { None }).collect(),
            v6: addresses().filter_map(|address| if let IpAddr::V6(v6) = address { Some(v6) } else { None }).collect(),
            ports: self.ports.clone(),
        }
    }
}

pub(super) fn check_snat(raw: &Raw, problems: &mut Problems) -> Checked {
    let Some(table) = &raw.snat else {
        return Checked { addresses: Vec::new(), list: None, incomplete: false, ports: DEFAULT_PORTS };
    };
    let snat = table.get_ref();
    let expected = "a list of addresses, such as [\"10.0.0.200\"]";
    let list = problems.required("snat.addresses", &snat.addresses, table.span(), expected);
    let given = list.map_or(&[][..], |list| list.get_ref());
    if let Some(list) = list.filter(|list| list.get_ref().is_empty()) {
        problems.add(Problem::new("snat.addresses", "the list is empty", expected).at(Place::new(list.span(), "")));
    }
    let addresses: Vec<_> =
        given.iter().filter_map(|text| problems.value("snat.addresses", Some(text), |text| address(text))).collect();
    problems.unique("snat.addresses", addresses.iter(), |address| format!("{address} is named twice"));
    let ports = problems.value_or("snat.ports", snat.ports.as_ref(), DEFAULT_PORTS, |text| port_range(text));
    let incomplete = addresses.is_empty() || addresses.len() < given.len();
    Checked { addresses, list: Some(list.map_or_else(|| table.span(), |list| list.span())), incomplete, ports }
}
