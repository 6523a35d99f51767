//! Shuffle sharding: a flow is dealt a hand of queues, so that a flow that floods its own hand leaves nearly every
//! other flow a queue that is free.

/// Most queues of a hand: what the validation of PriorityLevelConfigurations lets through.
const MAX_HAND: usize = 64;

/// The number of a flow: a hash (FNV-1a, whose bits are mixed afterwards) of its schema and what tells flows of the
/// schema apart.
pub(super) fn flow_hash(schema: &str, distinguisher: &str) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in schema.bytes().chain([0xff]).chain(distinguisher.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// Calls `pick` with `hand` different numbers below `deck`, all made of `hash`.
pub(super) fn deal(mut hash: u64, deck: usize, hand: usize, mut pick: impl FnMut(usize)) {
    let hand = hand.min(deck).min(MAX_HAND);
    let mut dealt = [0_usize; MAX_HAND];
    for count in 0..hand {
        let left = (deck - count) as u64;
        let mut card = (hash % left) as usize;
        hash /= left;
        // The card-th of those that are left: those dealt before, in order, are stepped over.
        let before = &mut dealt[..count];
        before.sort_unstable();
        for other in before.iter() {
            if card >= *other {
                card += 1;
            }
        }
        dealt[count] = card;
        pick(card);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn hand(hash: u64, deck: usize, size: usize) -> BTreeSet<usize> {
        let mut cards = BTreeSet::new();
        deal(hash, deck, size, |card| assert!(card < deck && cards.insert(card), "{card} twice"));
        assert_eq!(cards.len(), size.min(deck));
        cards
    }

    #[test]
    fn a_hand_has_different_cards_and_every_card_comes_up() {
        let mut counts = [0; 128];
        for flow in 0..4000 {
            for card in hand(flow_hash("s", &flow.to_string()), 128, 6) {
                counts[card] += 1;
            }
        }
        // 187.5 of each are expected, with a deviation of 13.4.
        assert!(counts.iter().all(|c| (120..260).contains(c)), "{counts:?}");
        assert_eq!(hand(7, 3, 8).len(), 3);
    }

    #[test]
    fn few_flows_are_covered_by_another() {
        let flood = hand(flow_hash("s", "flood"), 128, 6);
        let covered = (0..2000).filter(|f| hand(flow_hash("s", &f.to_string()), 128, 6).is_subset(&flood));
        assert_eq!(covered.count(), 0);
    }
}
