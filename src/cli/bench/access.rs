//! `weir bench access`: what looking up a client in lists of prefixes costs.

use super::measure::median;
use super::subject::{Random, clock_cost};
use crate::service::Access;
use clap::Args;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;
use serde_json::json;
use std::hint::black_box;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

/// What the access lists of a service cost a new connection, by number of prefixes
///
/// Random prefixes, half of them allowed and half denied: /8 to /32 of IPv4, /16 to /64 of IPv6. Random clients, every second one of them in a
/// prefix that was listed. Figures are medians over bursts of 64.
#[derive(Debug, Args)]
pub(super) struct AccessLists {
    /// Numbers of prefixes.
    #[arg(long, value_delimiter = ',', default_value = "100,10k,100k", value_parser = super::parse_count)]
    prefixes: Vec<usize>,
    /// Clients that are looked up.
    #[arg(long, default_value = "500k", value_parser = super::parse_count)]
    clients: usize,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Clients between two readings of the clock.
const BURST: usize = 64;

/// Nanoseconds for a client.
#[derive(Debug, Serialize)]
struct Figures {
    prefixes: usize,
    ipv4_ns: f64,
    ipv6_ns: f64,
}

impl AccessLists {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let figures: Vec<Figures> = self.prefixes.iter().map(|prefixes| measure(*prefixes, self.clients)).collect();
        if self.json {
            writeln!(out, "{}", json!({ "clients": self.clients, "results": figures }))?;
            return Ok(());
        }
        writeln!(out, "prefixes   IPv4 ns   IPv6 ns")?;
        for Figures { prefixes, ipv4_ns, ipv6_ns } in figures {
            writeln!(out, "{prefixes:>8} {ipv4_ns:>9.1} {ipv6_ns:>9.1}")?;
        }
        Ok(())
    }
}

fn measure(prefixes: usize, clients: usize) -> Figures {
    let [ipv4_ns, ipv6_ns] = [ipv4, ipv6].map(|prefix| look_up(prefixes, clients, prefix));
    Figures { prefixes, ipv4_ns, ipv6_ns }
}

fn look_up(count: usize, clients: usize, prefix: fn(&mut Random) -> IpNet) -> f64 {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let mut listed: Vec<IpNet> = (0..count).map(|_| prefix(&mut random)).collect();
    listed.sort_unstable();
    listed.dedup();
    let (allow, deny): (Vec<IpNet>, Vec<IpNet>) = listed.iter().copied().partition(|_| random.below(2) == 0);
    let (access, clock) = (Access::new(&allow, &deny), clock_cost());
    let bursts = (0..clients.div_ceil(BURST)).map(|_| {
        let sources: [IpAddr; BURST] = std::array::from_fn(|at| match at % 2 {
            0 if !listed.is_empty() => listed[random.below(listed.len())].addr(),
            _ => prefix(&mut random).addr(),
        });
        let start = Instant::now();
        for source in sources {
            black_box(access.allows(source));
        }
        start.elapsed().saturating_sub(clock).as_nanos() as f64 / BURST as f64
    });
    median(bursts)
}

fn ipv4(random: &mut Random) -> IpNet {
    let length = 8 + random.below(25) as u8;
    Ipv4Net::new_assert(Ipv4Addr::from_bits(random.next() as u32), length).trunc().into()
}

fn ipv6(random: &mut Random) -> IpNet {
    let length = 16 + random.below(49) as u8;
    // Out of 2000::/3, what is given to hosts.
    let high = random.next() >> 3 | 1 << 61;
    Ipv6Net::new_assert(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(random.next())), length).trunc().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_measured() {
        let (mut out, lists) = (Vec::new(), AccessLists { prefixes: vec![0, 1000], clients: 1000, json: false });
        lists.run(&mut out).unwrap();
        let lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[2].trim_start().starts_with("1000 "), "{lines:?}");
    }
}
