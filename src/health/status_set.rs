//! Sets of HTTP statuses.

use std::ops::RangeInclusive;

/// HTTP statuses that count as healthy. Interim ones (1xx) are never the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet(Vec<RangeInclusive<u16>>);

impl Default for StatusSet {
    /// 200 to 399: what a browser would call an answer.
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

/// A status set that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a status from 200 to 599 nor a range of them such as 200-399")]
pub struct BadStatus(String);

impl StatusSet {
    /// Reads `"200"`, `"200-299"` or `"200, 204, 301-302"`.
    pub fn parse(text: &str) -> Result<Self, BadStatus> {
        text.split(',').map(|part| parse_range(part.trim())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this status is a good one.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

fn parse_range(part: &str) -> Result<RangeInclusive<u16>, BadStatus> {
    let bad = || BadStatus(part.to_owned());
    let status = |text: &str| text.trim().parse().ok().filter(|status| (200..=599).contains(status)).ok_or_else(bad);
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let range = status(first)?..=status(last)?;
    if range.is_empty() { Err(bad()) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_single_statuses_and_ranges() {
        let set = StatusSet::parse("200, 204,301-302").unwrap();
        let good: Vec<u16> = (0..1000).filter(|status| set.contains(*status)).collect();
        assert_eq!(good, [200, 204, 301, 302]);
        assert!(StatusSet::default().contains(399) && !StatusSet::default().contains(400) && !StatusSet::default().contains(199));
    }

    #[test]
    fn refuses_what_is_no_status_and_names_the_part() {
        for (text, part) in [("", ""), ("200,,204", ""), ("199", "199"), ("600", "600"), ("300-200", "300-200"), ("2xx", "2xx")] {
            assert_eq!(StatusSet::parse(text), Err(BadStatus(part.to_owned())), "{text}");
        }
    }
}
