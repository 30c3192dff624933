//! How far two orders of the same cases agree.

/// Spearman's rank correlation of two orders, given as the place of each item in both: 1 for the same order, -1 for the
/// reverse; `None` for fewer than two items. The places need not be without gaps.
///
/// Source: Spearman, Am. J. Psychol. 15, 1904; ties take their mean rank.
pub fn rank_correlation(places: &[[f64; 2]]) -> Option<f64> {
    if places.len() < 2 {
        return None;
    }
    let [a, b] = [0, 1].map(|order| ranks(places.iter().map(|place| place[order])));
    let mean = (places.len() as f64 + 1.0) / 2.0;
    let sum = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum() };
    let spread = (sum(&a, &a) * sum(&b, &b)).sqrt();
    (spread > 0.0).then(|| sum(&a, &b) / spread)
}

/// The rank of each value, from 1.
fn ranks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let values: Vec<f64> = values.collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let same = order[from..]
            .iter()
            .take_while(|&&n| values[n] == values[order[from]])
            .count();
        let mean = (2 * from + same + 1) as f64 / 2.0;
        order[from..from + same].iter().for_each(|&n| ranks[n] = mean);
        from += same;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last: scipy.stats.spearmanr([1, 2, 2, 4, 5], [2, 1, 4, 3, 5]) = 0.6668859288553503.
    #[test]
    fn orders_agree_from_the_reverse_to_the_same() {
        let of = |places: &[[f64; 2]]| rank_correlation(places);
        assert_eq!(of(&[[0.0, 5.0], [1.0, 7.0], [2.0, 9.0]]), Some(1.0));
        assert_eq!(of(&[[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]), Some(-1.0));
        assert_eq!((of(&[[0.0, 0.0]]), of(&[[1.0, 1.0], [1.0, 2.0]])), (None, None));
        let tied = of(&[[1.0, 2.0], [2.0, 1.0], [2.0, 4.0], [4.0, 3.0], [5.0, 5.0]]).unwrap();
        assert!((tied - 0.6668859288553503).abs() < 1e-12);
    }
}
