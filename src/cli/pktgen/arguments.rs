//! Values of the command line.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// Packets a second; 0 is as fast as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate(pub(super) u32);

impl Rate {
    /// More than any sender of this program reaches.
    pub(super) const MOST: u32 = 20_000_000;
}

impl Default for Rate {
    /// What harms no network that it is pointed at by mistake.
    fn default() -> Self {
        Self(10_000)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self(0));
        }
        let (digits, factor) = match text.strip_suffix(['k', 'K']) {
            Some(digits) => (digits, 1e3),
            None => text.strip_suffix(['m', 'M']).map_or((text, 1.0), |digits| (digits, 1e6)),
        };
        let rate = digits.parse::<f64>().ok().map(|number| number * factor);
        let rate = rate.filter(|rate| (1.0..=f64::from(Self::MOST)).contains(rate));
        rate.map(|rate| Self(rate as u32))
            .ok_or_else(|| "allowed: 1 to 20M packets a second, such as 500, 10k or 1.5M, or max".into())
    }
}

/// FROM:TO:SECONDS
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ramp {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) duration: Duration,
}

impl FromStr for Ramp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [from, to, seconds] = parts[..] else {
            return Err("allowed: FROM:TO:SECONDS, such as 10k:1M:20".into());
        };
        let (Rate(from), Rate(to)) = (from.parse()?, to.parse()?);
        if from == 0 || to == 0 {
            return Err("allowed: numbers; a ramp has no max".into());
        }
        Ok(Self { from, to, duration: parse_duration(seconds)? })
    }
}

/// A link address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mac(pub(super) [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Option<Vec<u8>> =
            text.split(':').map(|byte| (byte.len() <= 2).then(|| u8::from_str_radix(byte, 16).ok()).flatten()).collect();
        let bytes: Option<[u8; 6]> = bytes.and_then(|bytes| bytes.try_into().ok());
        // IEEE 802: bit 0 of the first byte is set in addresses of groups.
        let one = bytes.filter(|bytes| bytes[0] & 1 == 0 && *bytes != [0; 6]);
        one.map(Self).ok_or_else(|| "allowed: the link address of one host, such as 02:00:00:00:00:01".into())
    }
}

/// Where packets are sent.
pub(super) fn parse_vip(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "allowed: an address and a port, such as 10.0.0.100:80 or [2001:db8::100]:80".into())
}

/// Whom they are from.
pub(super) fn parse_clients(text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| "allowed: a prefix, such as 198.18.0.0/15 or 2001:2::/48".into())
}

/// How many flows, which [`Plan`](crate::pktgen::Plan) bounds.
pub(super) fn parse_flows(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "allowed: a number from 1 on, as many as --clients have addresses and ports".into())
}

/// A CPU, of which the kernel knows whether it is there.
pub(super) fn parse_cpu(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "allowed: the number of a CPU, from 0 on".into())
}

/// How exactly a rate is looked for, in packets a second.
pub(super) fn parse_resolution(text: &str) -> Result<u32, String> {
    let rate = text.parse().ok().filter(|Rate(rate)| *rate > 0);
    rate.map(|Rate(rate)| rate).ok_or_else(|| "allowed: 1 to 20M packets a second, such as 500 or 10k".into())
}

/// Seconds, bounded: nothing is sent for ever.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "allowed: 0.1 to 3600 seconds".into())
}

/// A percentage, as so many of a thousand million.
pub(super) fn parse_loss(text: &str) -> Result<u64, String> {
    let percent = text.parse::<f64>().ok().filter(|percent| (0.0..=50.0).contains(percent));
    percent.map(|percent| (percent * 1e7).round() as u64).ok_or_else(|| "allowed: 0 to 50 percent".into())
}

/// What is set aside for benchmarks: 198.18.0.0/15 (RFC 2544, appendix C) and 2001:2::/48 (RFC 5180, section 8).
pub(super) fn default_clients(vip: IpAddr) -> IpNet {
    match vip {
        IpAddr::V4(_) => Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15).into(),
        IpAddr::V6(_) => Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_nonsense_refused() {
        for (text, rate) in [("500", 500), ("10k", 10_000), ("1.5M", 1_500_000), ("max", 0), ("20M", 20_000_000)] {
            assert_eq!(text.parse(), Ok(Rate(rate)), "{text}");
        }
        for text in ["0", "-1", "21M", "x", "", "nan", "inf", "k"] {
            assert!(text.parse::<Rate>().unwrap_err().contains("1 to 20M"), "{text}");
        }
    }

    #[test]
    fn ramps_are_read_and_nonsense_refused() {
        let ramp = Ramp { from: 10_000, to: 1_000_000, duration: Duration::from_secs(20) };
        assert_eq!("10k:1M:20".parse(), Ok(ramp));
        for text in ["10k:1M", "10k:1M:0", "10k:max:5", "a:b:c", "1:2:3:4", "1:2:4000"] {
            assert!(text.parse::<Ramp>().is_err(), "{text}");
        }
    }

    #[test]
    fn link_addresses_are_of_one_host() {
        assert_eq!("02:00:00:00:00:fF".parse(), Ok(Mac([2, 0, 0, 0, 0, 255])));
        for text in ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00", "02:00:00:00:00", "02:00:00:00:00:001"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_and_numbers_are_refused_with_what_is_allowed() {
        assert_eq!(parse_vip("[fd00::1]:80"), Ok("[fd00::1]:80".parse().unwrap()));
        for text in ["10.9.0.2", "fd00::1", "name:80", ""] {
            assert!(parse_vip(text).unwrap_err().contains("10.0.0.100:80"), "{text}");
        }
        assert_eq!(parse_clients("10.0.0.0/8"), Ok("10.0.0.0/8".parse().unwrap()));
        for text in ["xyz", "10.0.0.0/33", "10.0.0.1"] {
            assert!(parse_clients(text).unwrap_err().contains("198.18.0.0/15"), "{text}");
        }
        assert_eq!((parse_flows("7"), parse_cpu("0")), (Ok(7), Ok(0)));
        assert!(parse_flows("x").unwrap_err().contains("from 1 on"));
        assert!(parse_cpu("x").unwrap_err().contains("from 0 on"));
    }

    #[test]
    fn a_resolution_is_a_number() {
        assert_eq!(parse_resolution("10k"), Ok(10_000));
        for text in ["max", "0", "x", "21M"] {
            assert!(parse_resolution(text).unwrap_err().contains("1 to 20M"), "{text}");
        }
    }

    #[test]
    fn durations_and_losses_are_bounded() {
        assert_eq!(parse_duration("0.5"), Ok(Duration::from_millis(500)));
        assert!(["0", "3601", "x", "nan"].iter().all(|text| parse_duration(text).is_err()));
        assert_eq!(parse_loss("0.01"), Ok(100_000));
        assert!(["-1", "51", "x"].iter().all(|text| parse_loss(text).is_err()));
    }
}
