//! How wide the vectors are that the datapath is measured with.
//!
//! The released binary needs no more than x86-64-v2. Its one choice at run time is that of the vectors which hash the tuples of a burst.

use crate::conntrack::{HashKey, Lanes};
use anyhow::ensure;
use clap::ValueEnum;
use serde::Serialize;
use std::fmt;

/// The widest instructions that may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Width {
    /// What `weir run` takes: the widest that the CPU has.
    #[default]
    Widest,
    /// Those that every machine has: x86-64-v2.
    V2,
    /// AVX2: four words side by side.
    Avx2,
    /// AVX-512: eight words side by side.
    Avx512,
}

impl Width {
    /// A key nobody knows, hashed with at this width.
    ///
    /// # Errors
    /// The CPU has no such instructions.
    pub(super) fn key(self) -> anyhow::Result<HashKey> {
        let Some(lanes) = self.lanes() else { return Ok(HashKey::random()) };
        ensure!(Lanes::here().any(|here| here == lanes), "--width {self}: this CPU does not have it");
        Ok(HashKey::random().at_most(lanes))
    }

    #[cfg(target_arch = "x86_64")]
    fn lanes(self) -> Option<Lanes> {
        match self {
            Self::Widest => None,
            Self::V2 => Some(Lanes::Baseline),
            Self::Avx2 => Some(Lanes::Avx2),
            Self::Avx512 => Some(Lanes::Avx512),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn lanes(self) -> Option<Lanes> {
        (self != Self::Widest).then_some(Lanes::Baseline)
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Widest => "widest",
            Self::V2 => "v2",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_has_a_key_or_says_that_the_cpu_lacks_it() {
        assert!(Width::Widest.key().is_ok() && Width::V2.key().is_ok());
        for width in [Width::Avx2, Width::Avx512] {
            let has = width.lanes().is_some_and(|lanes| Lanes::here().any(|here| here == lanes));
            assert_eq!(width.key().is_ok(), has, "{width}");
        }
    }
}
