//! How long something will take, by how long it took.

/// The value in the middle of several, the smaller of two.
pub fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_9_one_that_took_long_does_not_move_the_estimate() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![7]), Some(7));
        assert_eq!(median(vec![900, 5, 6]), Some(6));
        assert_eq!(median(vec![8, 2, 6, 4]), Some(4));
    }
}
