//! Which pieces go into a pass together.

/// Pieces of these lengths in bins of so much room, by number: the longest first, each into the first bin that still has room for it
/// (first fit decreasing: at most 11/9 of the fewest bins there could be, and one more; Dósa 2007). A piece that is longer than the
/// room has a bin of its own.
pub fn packed(lengths: &[usize], room: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(lengths[at]));
    let mut bins: Vec<(usize, Vec<usize>)> = Vec::new();
    for at in order {
        let length = lengths[at];
        match bins.iter_mut().find(|(used, _)| used + length <= room) {
            Some((used, bin)) => {
                *used += length;
                bin.push(at);
            }
            None => bins.push((length, vec![at])),
        }
    }
    bins.into_iter().map(|(_, bin)| bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::Rng;
    use ravel_core::Seed;

    #[test]
    fn every_piece_is_in_one_bin_and_no_bin_overflows() {
        let mut random = Seed::new(1).stream();
        for round in 0..200 {
            let count = random.next_u64() as usize % 30;
            let lengths: Vec<usize> = (0..count)
                .map(|_| 1 + random.next_u64() as usize % 70)
                .collect();
            let room = 64;
            let bins = packed(&lengths, room);
            let mut all: Vec<usize> = bins.iter().flatten().copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>(), "round {round}");
            let used = |bin: &[usize]| bin.iter().map(|&at| lengths[at]).sum::<usize>();
            assert!(bins.iter().all(|bin| bin.len() == 1 || used(bin) <= room));
            // No two bins fit into one.
            for (at, first) in bins.iter().enumerate() {
                for second in &bins[at + 1..] {
                    assert!(used(first) + used(second) > room);
                }
            }
        }
    }

    #[test]
    fn long_pieces_are_placed_first() {
        assert_eq!(packed(&[3, 6, 7, 4], 10), [vec![2, 0], vec![1, 3]]);
        assert_eq!(packed(&[20, 1], 10), [vec![0], vec![1]]);
        assert!(packed(&[], 10).is_empty());
    }
}
