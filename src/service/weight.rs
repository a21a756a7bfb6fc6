//! The weight that schedulers go by: one function of all that has a say in it.

/// What the weight of a backend is made of. The control thread alone writes it; schedulers see what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// In the config, 0 to 65535.
    pub configured: u32,
    /// What an operator has set instead, 0 to 65535.
    pub overridden: Option<u32>,
    /// Percent that slow start has come to, 1 to 100.
    pub ramp: u32,
    /// Percent that the backend's agent asks for, 0 to [`Weight::MOST_SHARE`].
    pub share: u32,
}

impl Weight {
    /// Largest weight that schedulers are given: fractions of smaller ones never tie by rounding (`schedule/tournament.rs`).
    pub const MOST: u32 = 65_535;
    /// Percent that an agent may ask for.
    pub const MOST_SHARE: u32 = 1000;
    /// Where weights are divided, one is so many parts: a backend of weight 1 can have a hundredth of it.
    const PARTS: u32 = 100;

    /// As configured, and nobody else has a say.
    pub const fn new(configured: u32) -> Self {
        Self { configured, overridden: None, ramp: 100, share: 100 }
    }

    /// The whole weight: the operator's, or else the config's.
    pub fn whole(self) -> u32 {
        self.overridden.unwrap_or(self.configured)
    }

    /// The weight in force, in parts: whole × slow start × agent. 0 only where the whole weight or the agent's share is.
    pub fn effective(self, parts: u32) -> u32 {
        let product = u64::from(self.whole()) * u64::from(parts) * u64::from(self.ramp) * u64::from(self.share);
        match product {
            0 => 0,
            product => (product / 10_000).clamp(1, u64::from(Self::MOST)) as u32,
        }
    }

    /// The most that slow start can come to, in ones: more than the whole weight if the agent asks for more.
    pub fn peak(self) -> u32 {
        (u64::from(self.whole()) * u64::from(self.share.max(100))).div_ceil(100).min(u64::from(u32::MAX)) as u32
    }

    /// Into how many parts one can be divided among backends of these peaks, so that none of them is above [`Weight::MOST`].
    pub fn parts(peaks: impl Iterator<Item = u32>) -> u32 {
        (Self::MOST / peaks.max().unwrap_or(1).max(1)).clamp(1, Self::PARTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_say() {
        let weight = Weight { ramp: 25, share: 80, ..Weight::new(10) };
        assert_eq!((weight.effective(1), weight.effective(100)), (2, 200));
        assert_eq!(Weight { overridden: Some(20), ..weight }.effective(100), 400);
        assert_eq!(Weight::new(7).effective(1), 7);
    }

    #[test]
    fn only_who_is_meant_to_get_nothing_gets_nothing() {
        assert_eq!(Weight { ramp: 1, share: 1, ..Weight::new(1) }.effective(1), 1);
        assert_eq!(Weight { share: 0, ..Weight::new(5) }.effective(100), 0);
        assert_eq!(Weight { overridden: Some(0), ..Weight::new(5) }.effective(100), 0);
        assert_eq!(Weight { share: Weight::MOST_SHARE, ..Weight::new(65_535) }.effective(1), Weight::MOST);
    }

    /// Of backends with weights from 1 to 655, one has an agent that asks for ten times its weight.
    #[test]
    fn who_gets_more_than_the_whole_gets_as_much_more_of_the_pool() {
        for whole in [1, 64, 65, 66, 100, 655, 6553] {
            let more = Weight { share: Weight::MOST_SHARE, ..Weight::new(whole) };
            let parts = Weight::parts([more.peak(), whole].into_iter());
            assert_eq!(more.effective(parts), 10 * Weight::new(whole).effective(parts), "{whole}");
        }
        assert_eq!(Weight { share: Weight::MOST_SHARE, ..Weight::new(u32::MAX) }.peak(), u32::MAX);
    }

    #[test]
    fn no_whole_weight_grows_beyond_the_largest() {
        for (wholes, parts) in
            [(vec![1, 1], 100), (vec![655, 3], 100), (vec![6553, 1], 10), (vec![65_535], 1), (vec![0], 100), (vec![], 100)]
        {
            assert_eq!(Weight::parts(wholes.iter().copied()), parts, "{wholes:?}");
        }
    }
}
