//! How fast this machine computes: what is asked, and what was measured.

use serde::{Deserialize, Serialize};

use crate::settings::{Networks, Precision};

/// What to time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchTask {
    /// The network, or the members of a committee.
    pub networks: Networks,
    /// How wide.
    pub base_channels: Vec<usize>,
    /// 64x64 tiles a batch.
    pub batch: usize,
    /// Threads; 0 takes every core.
    pub threads: usize,
    /// Times each thing is done, once it is warm; 0, and no width, asks what the machine is.
    pub runs: usize,
    /// Whether a whole volume is drawn too.
    pub volume: bool,
    /// Numbers on a GPU.
    pub precision: Precision,
}

/// What it was measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name, as the system gives it.
    pub processor: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Threads that computed.
    pub threads: usize,
    /// The instruction set of the kernels.
    pub instructions: String,
    /// The numbers that were asked for; a row of the bench says what it was computed with.
    pub precision: String,
    /// The GPU's name, where one computed.
    pub gpu: Option<String>,
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(gpu) = &self.gpu {
            write!(f, "{gpu}, ")?;
        }
        let Machine {
            processor,
            cores,
            threads,
            instructions,
            precision,
            ..
        } = self;
        write!(
            f,
            "{processor}: {threads} of {cores} cores, {instructions}; {precision}"
        )
    }
}

/// One thing that was timed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchRow {
    /// What.
    pub what: String,
    /// Width of the network's first level; `None` for what has no network.
    pub base_channels: Option<usize>,
    /// Tiles a batch, as they are counted for the U-shape network; `None` for what has none.
    pub batch: Option<usize>,
    /// The numbers it was computed with; `None` for what has no network.
    pub precision: Option<Precision>,
    /// Seconds of every run, in the order they were made.
    pub seconds: Vec<f64>,
    /// Floating-point operations of a run, where they can be counted.
    pub flop: Option<f64>,
}

impl BenchRow {
    /// Median, least and most seconds; of an even number of runs the median is the mean of the middle two.
    pub fn spread_s(&self) -> [f64; 3] {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |n: usize| sorted.get(n).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        let median = (at(last / 2) + at(last.div_ceil(2))) / 2.0;
        [median, at(0), at(last)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_median_least_and_most_whatever_the_order() {
        let spread = |seconds: &[f64]| {
            let row = BenchRow {
                what: "forward".into(),
                base_channels: None,
                batch: None,
                precision: None,
                seconds: seconds.to_vec(),
                flop: None,
            };
            row.spread_s()
        };
        assert_eq!(spread(&[3.0, 1.0, 9.0]), [3.0, 1.0, 9.0]);
        assert_eq!(spread(&[4.0, 1.0, 9.0, 3.0]), [3.5, 1.0, 9.0]);
        assert_eq!(spread(&[2.0]), [2.0; 3]);
        assert!(spread(&[])[0].is_nan());
    }
}
