//! Dice's coefficient.

/// Voxels that are counted at once where all of them are of one class in both maps, as most of a volume is.
const RUN: usize = 32;

/// Dice (DSC) per class of two label maps of one grid, background left out: 2 |A and B| / (|A| + |B|).
///
/// `None` where a class is in neither map. Both slices hold one class a voxel, in the same order.
///
/// Source: Dice, "Measures of the amount of ecologic association between species", Ecology 26, 1945.
pub fn dice(a: &[u8], b: &[u8], classes: usize) -> Vec<Option<f64>> {
    let (mut both, mut total) = ([0u64; 256], [0u64; 256]);
    let voxels = a.len().min(b.len());
    for (a, b) in a[..voxels].chunks(RUN).zip(b[..voxels].chunks(RUN)) {
        let class = a[0];
        let differs = |run: &[u8]| run.iter().fold(0, |found, voxel| found | (voxel ^ class)) != 0;
        if !differs(a) && !differs(b) {
            total[class as usize] += 2 * a.len() as u64;
            both[class as usize] += a.len() as u64;
            continue;
        }
        for (&a, &b) in a.iter().zip(b) {
            total[a as usize] += 1;
            total[b as usize] += 1;
            both[a as usize] += u64::from(a == b);
        }
    }
    (1..classes)
        .map(|k| (total[k] > 0).then(|| 2.0 * both[k] as f64 / total[k] as f64))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_pair_shared_is_one_half() {
        let a = [0, 1, 1, 2, 2, 2];
        let b = [1, 1, 0, 2, 2, 0];
        assert_eq!(dice(&a, &b, 4), [Some(0.5), Some(0.8), None]);
    }

    /// Runs of one class, runs that differ in a voxel, and a last one that is shorter.
    #[test]
    fn runs_count_as_their_voxels_do() {
        let a: Vec<u8> = (0..1000).map(|at| (at / 97 % 4) as u8).collect();
        let b: Vec<u8> = (0..1000).map(|at| ((at + at / 500) / 97 % 4) as u8).collect();
        let count = |k: u8| {
            let both = a.iter().zip(&b).filter(|(a, b)| a == b && **a == k).count();
            let of = |map: &[u8]| map.iter().filter(|voxel| **voxel == k).count();
            Some(2.0 * both as f64 / (of(&a) + of(&b)) as f64)
        };
        assert_eq!(dice(&a, &b, 4), [count(1), count(2), count(3)]);
    }

    #[test]
    fn a_class_in_one_map_only_is_zero_and_in_neither_is_unknown() {
        assert_eq!(dice(&[1, 0], &[0, 0], 3), [Some(0.0), None]);
    }
}
