//! What the worker is at, in words.

use jiff::Timestamp;

use super::text::clean;
use crate::protocol::{Activity, Stage};
use crate::records::DeviceUse;

/// What the worker is at, in a few words: `training epoch 12/500 63 %`.
pub fn activity_words(activity: &Activity) -> String {
    if activity.stage == Stage::Idle {
        return "idle".into();
    }
    let mut words = activity.stage.word().to_string();
    if activity.epoch > 0 {
        words += &format!(" epoch {}/{}", activity.epoch, activity.max_epochs);
    }
    if activity.of > 0 {
        words += &format!(" {}/{}", activity.done, activity.of);
    }
    words
}

/// How much of a GPU is in use: `NVIDIA H100 (0) 12.3 of 79.6 GiB, 97 % busy`.
pub fn device_words(usage: &DeviceUse) -> String {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let busy = usage
        .busy_percent
        .map_or_else(String::new, |busy| format!(", {busy} % busy"));
    format!(
        "{} {:.1} of {:.1} GiB{busy}",
        clean(&usage.device),
        gib(usage.used_bytes),
        gib(usage.total_bytes)
    )
}

/// Seconds that the running stage takes at most, from how long its parts took so far.
pub fn seconds_left(now: Timestamp, activity: &Activity) -> Option<f64> {
    if activity.stage == Stage::Training {
        let taken: f64 = activity.curve.iter().map(|epoch| epoch.seconds).sum();
        let done = activity.curve.len();
        let left = activity.max_epochs.saturating_sub(done);
        return (done > 0).then(|| taken / done as f64 * left as f64);
    }
    let since = activity.since?;
    let elapsed_s = (now.as_millisecond() - since.as_millisecond()) as f64 / 1000.0;
    let left = activity.of.saturating_sub(activity.done);
    (activity.done > 0 && elapsed_s > 0.0).then(|| elapsed_s / activity.done as f64 * left as f64)
}
