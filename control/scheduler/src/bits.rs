//! Sets of nodes, one bit each.

/// A set of small numbers. All sets of one table have the same capacity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// The empty set with room for numbers below `capacity`.
    #[must_use]
    pub fn empty(capacity: usize) -> Self {
        Self { words: vec![0; capacity.div_ceil(64)] }
    }

    /// Makes room for numbers below `capacity`.
    pub fn grow(&mut self, capacity: usize) {
        let words = capacity.div_ceil(64);
        if words > self.words.len() {
            self.words.resize(words, 0);
        }
    }

    /// Puts `number` in, making room if need be.
    pub fn insert(&mut self, number: u32) {
        self.grow(number as usize + 1);
        self.words[number as usize / 64] |= 1 << (number % 64);
    }

    /// Takes `number` out.
    pub fn remove(&mut self, number: u32) {
        if let Some(word) = self.words.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    /// Whether `number` is in.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.words.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// How many numbers are in.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether nothing is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Keeps what is in `other` too.
    pub fn keep(&mut self, other: &Self) {
        for (index, word) in self.words.iter_mut().enumerate() {
            *word &= other.words.get(index).copied().unwrap_or(0);
        }
    }

    /// Takes out what is in `other`.
    pub fn subtract(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    /// Adds what is in `other`.
    pub fn add(&mut self, other: &Self) {
        self.grow(other.words.len() * 64);
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// The numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(&self.words).flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                if left == 0 {
                    return None;
                }
                let bit = left.trailing_zeros();
                left &= left - 1;
                Some(index * 64 + bit)
            })
        })
    }

    /// The set of the positions for which `test` holds, over chunks of 64 positions: `test` gets the first position
    /// of a chunk and how many it has, and answers one bit for each.
    pub(crate) fn by_chunks(length: usize, mut test: impl FnMut(usize, usize) -> u64) -> Self {
        let words = (0..length).step_by(64).map(|start| test(start, 64.min(length - start))).collect();
        Self { words }
    }
}

impl FromIterator<u32> for Bits {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut bits = Self::default();
        numbers.into_iter().for_each(|number| bits.insert(number));
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_different_size_combine() {
        let mut a: Bits = [1, 70, 200].into_iter().collect();
        let b: Bits = [1, 2, 70].into_iter().collect();
        let mut kept = a.clone();
        kept.keep(&b);
        assert_eq!(kept.iter().collect::<Vec<_>>(), [1, 70]);
        let mut less = a.clone();
        less.subtract(&b);
        assert_eq!(less.iter().collect::<Vec<_>>(), [200]);
        a.add(&[300].into_iter().collect());
        assert_eq!(a.count(), 4);
        assert!(a.contains(300) && !a.contains(299) && !a.contains(100_000));
    }
}
