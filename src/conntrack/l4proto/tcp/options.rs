//! The options that tracking looks at: window scale and SACK (RFC 7323, section 2; RFC 2018).

const END: u8 = 0;
const NOP: u8 = 1;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
/// Largest shift (RFC 7323, section 2.3).
const MAX_SCALE: u8 = 14;
/// NOP, NOP, timestamps: how nearly every sender puts them (RFC 7323, appendix A).
pub(super) const TIMESTAMPS: [u8; 4] = [1, 1, 8, 10];

/// What a SYN offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Offer {
    /// Window scale, at most 14; `None`: no scaling.
    pub scale: Option<u8>,
    /// SACK may be sent to it.
    pub sack: bool,
}

impl Offer {
    /// Reads the options of a SYN.
    pub(super) fn read(options: &[u8]) -> Self {
        let mut offer = Self::default();
        for (kind, value) in Options(options) {
            match (kind, value) {
                (WINDOW_SCALE, [shift]) => offer.scale = Some((*shift).min(MAX_SCALE)),
                (SACK_PERMITTED, []) => offer.sack = true,
                _ => {}
            }
        }
        offer
    }
}

/// The highest right edge of the SACK blocks in the first SACK option, if it is behind `acknowledgment`; else that.
pub(super) fn highest_sack(options: &[u8], acknowledgment: u32) -> u32 {
    let blocks = Options(options).find(|(kind, value)| *kind == SACK && !value.is_empty() && value.len() % 8 == 0);
    let Some((_, value)) = blocks else { return acknowledgment };
    let (blocks, _) = value.as_chunks::<8>();
    let edges = blocks.iter().map(|block| crate::packet::be32(block, 4));
    edges.fold(acknowledgment, |highest, edge| if super::window::after(edge, highest) { edge } else { highest })
}

/// Kind and value of each option, up to the end or to the first one that is malformed.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while let [NOP, rest @ ..] = self.0 {
            self.0 = rest;
        }
        match self.0 {
            [] | [END, ..] | [_] => None,
            [kind, length, ..] => {
                let length = usize::from(*length);
                let option = self.0.get(..length).filter(|option| option.len() >= 2)?;
                self.0 = &self.0[length..];
                Some((*kind, &option[2..]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_syn_offers() {
        let linux = [2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(Offer::read(&linux), Offer { scale: Some(7), sack: true });
        assert_eq!(Offer::read(&[3, 3, 200, 0]), Offer { scale: Some(14), sack: false });
        assert_eq!(Offer::read(&[]), Offer::default());
        // Behind the end, of a wrong length, cut off: not there.
        for options in [&[0, 3, 3, 7][..], &[3, 4, 7, 0], &[3, 3], &[3], &[1, 1, 1, 3], &[9, 0, 3, 3, 7, 0], &[9, 1, 3, 3, 7, 0]]
        {
            assert_eq!(Offer::read(options), Offer::default(), "{options:?}");
        }
    }

    #[test]
    fn the_highest_block_counts() {
        let blocks = |edges: &[u32]| {
            let mut option = vec![1, 1, 5, 2 + 8 * edges.len() as u8];
            edges.iter().for_each(|edge| option.extend([[0; 4], edge.to_be_bytes()].concat()));
            option
        };
        assert_eq!(highest_sack(&blocks(&[1500, 3000, 2000]), 1000), 3000);
        assert_eq!(highest_sack(&blocks(&[500]), 1000), 1000);
        assert_eq!(highest_sack(&blocks(&[5]), u32::MAX - 5), 5, "over the end of the numbers");
        assert_eq!(highest_sack(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], 7), 7);
        assert_eq!(highest_sack(&[5, 9, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0], 7), 7, "no whole block");
    }
}
