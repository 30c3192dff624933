//! Work in three stages, each in a thread of its own: while a batch is computed the next one is cut out, and what was computed of the one
//! before is put where it belongs.

use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, sync_channel};

use super::ModelError;

/// What `place` makes of all that `compute`, in the thread that calls this, makes of all that `cut` cuts, in that order; `None` when
/// `tick`, asked after each batch, says so.
///
/// `cut` hands over one batch after the other for as long as they are taken. A panic of a stage is passed on.
///
/// # Errors
/// Those of `compute`, and else those of `place`.
pub(super) fn in_stages<B: Send, C: Send, R: Send>(
    cut: impl FnOnce(&dyn Fn(B) -> bool) + Send,
    mut compute: impl FnMut(B) -> candle_core::Result<C>,
    place: impl FnOnce(Receiver<C>) -> candle_core::Result<R> + Send,
    tick: &mut (dyn FnMut() -> ControlFlow<()> + Send),
) -> Result<Option<R>, ModelError> {
    std::thread::scope(|scope| {
        let (sender, batches) = sync_channel(1);
        let cutting = scope.spawn(move || cut(&|batch| sender.send(batch).is_ok()));
        let (begun, computed) = sync_channel(1);
        let placing = scope.spawn(move || place(computed));
        for batch in batches {
            // Nobody takes it where placing failed; why is said below.
            if begun.send(compute(batch)?).is_err() {
                break;
            }
            if tick().is_break() {
                return Ok(None);
            }
        }
        drop(begun);
        cutting.join().unwrap_or_else(|panic| resume_unwind(panic));
        let placed = placing.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok(Some(placed?))
    })
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use candle_core::Error;

    use super::*;

    fn staged(
        cut: impl FnOnce(&dyn Fn(usize) -> bool) + Send,
        compute: impl FnMut(usize) -> candle_core::Result<usize>,
        place: impl FnOnce(Receiver<usize>) -> candle_core::Result<Vec<usize>> + Send,
    ) -> Result<Option<Vec<usize>>, ModelError> {
        in_stages(cut, compute, place, &mut || ControlFlow::Continue(()))
    }

    /// As many as are taken.
    fn count(take: &dyn Fn(usize) -> bool) {
        let _ = (0..).take(1000).all(take);
    }

    fn all(computed: Receiver<usize>) -> candle_core::Result<Vec<usize>> {
        Ok(computed.iter().collect())
    }

    #[test]
    fn what_is_cut_is_computed_and_placed_in_its_order() {
        let placed = staged(count, |n| Ok(2 * n), all).unwrap().unwrap();
        assert!(placed.into_iter().eq((0..1000).map(|n| 2 * n)));
    }

    #[test]
    fn an_error_of_any_stage_ends_all() {
        let failed = |_: usize| Err(Error::msg("not computed"));
        let error = staged(count, failed, all).unwrap_err().to_string();
        assert!(error.contains("not computed"), "{error}");
        let placed = |computed: Receiver<usize>| match computed.recv() {
            Ok(_) => Err(Error::msg("not placed")),
            Err(_) => Ok(Vec::new()),
        };
        let error = staged(count, Ok, placed).unwrap_err().to_string();
        assert!(error.contains("not placed"), "{error}");
    }

    /// A case that was cut in part must not be taken for a whole one.
    #[test]
    fn a_panic_of_any_stage_is_passed_on() {
        let words = |work: &mut dyn FnMut()| {
            let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("a stage panics");
            panic.downcast_ref::<&str>().map(|words| words.to_string())
        };
        let cut = |take: &dyn Fn(usize) -> bool| {
            take(1);
            panic!("while cutting")
        };
        assert_eq!(
            words(&mut || drop(staged(cut, Ok, all))).as_deref(),
            Some("while cutting")
        );
        let place = |_: Receiver<usize>| -> candle_core::Result<Vec<usize>> { panic!("while placing") };
        assert_eq!(
            words(&mut || drop(staged(count, Ok, place))).as_deref(),
            Some("while placing")
        );
    }
}
