//! The range that Service addresses come from.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use rand::Rng;

/// An IPv4 range such as 10.96.0.0/16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServiceRange {
    network: u32,
    prefix: u8,
}

/// How often a random address is tried before the range is searched.
const TRIES: usize = 32;

impl ServiceRange {
    /// Reads `a.b.c.d/n`. `None` when it is none, or has fewer than four addresses or more than a million.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        // Upstream takes at most 20 bits of addresses.
        if !(12..=30).contains(&prefix) {
            return None;
        }
        let network = u32::from(address) & (u32::MAX << (32 - prefix));
        Some(ServiceRange { network, prefix })
    }

    /// How many addresses there are.
    fn size(&self) -> u32 {
        1 << (32 - self.prefix)
    }

    /// The address at an offset.
    fn at(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.network + offset)
    }

    /// The first address that a Service can have: that of `kubernetes`.
    pub(crate) fn first(&self) -> Ipv4Addr {
        self.at(1)
    }

    /// Whether a Service can have the address: the network's own and the last one it cannot.
    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).checked_sub(self.network);
        offset.is_some_and(|o| o > 0 && o < self.size() - 1)
    }

    /// Where the addresses begin that are given out by themselves. Those below stay free for people who name one;
    /// upstream's rule.
    fn dynamic_from(&self) -> u32 {
        (self.size() / 16).clamp(16, 256).min(self.size() / 2)
    }

    /// A free address: from the upper part as long as there is one.
    pub(crate) fn free(&self, taken: &BTreeSet<Ipv4Addr>, random: &mut impl Rng) -> Option<Ipv4Addr> {
        let (low, last) = (self.dynamic_from(), self.size() - 1);
        for _ in 0..TRIES {
            let address = self.at(random.random_range(low..last));
            if !taken.contains(&address) {
                return Some(address);
            }
        }
        (low..last).chain(1..low).map(|offset| self.at(offset)).find(|a| !taken.contains(a))
    }
}

impl fmt::Display for ServiceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.network), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges_and_refuses_others() {
        let range = ServiceRange::parse("10.96.3.4/16").unwrap();
        assert_eq!(range.to_string(), "10.96.0.0/16");
        assert_eq!(range.first(), Ipv4Addr::new(10, 96, 0, 1));
        assert!(range.contains(Ipv4Addr::new(10, 96, 255, 254)));
        for outside in [[10, 96, 0, 0], [10, 96, 255, 255], [10, 97, 0, 1], [10, 95, 255, 255]] {
            assert!(!range.contains(outside.into()), "{outside:?}");
        }
        for wrong in ["10.96.0.0", "10.96.0.0/31", "10.0.0.0/8", "fd00::/108", "x/16"] {
            assert_eq!(ServiceRange::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_address_is_given_out_once_and_the_low_ones_last() {
        let range = ServiceRange::parse("10.0.0.0/27").unwrap();
        let mut taken = BTreeSet::new();
        let mut random = rand::rng();
        let mut order = Vec::new();
        while let Some(address) = range.free(&taken, &mut random) {
            assert!(range.contains(address));
            assert!(taken.insert(address));
            order.push(address);
        }
        assert_eq!(order.len(), 30);
        let low = Ipv4Addr::new(10, 0, 0, 16);
        assert!(order[..15].iter().all(|a| *a >= low) && order[15..].iter().all(|a| *a < low));
    }
}
