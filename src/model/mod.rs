//! stub
use crate::records::*;
use std::ops::ControlFlow;
use std::path::Path;
/// e
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct ModelError;
/// t
pub fn train(
    _: &TrainTask,
    _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<TaskResult, ModelError> {
    Err(ModelError)
}
/// t
pub fn predict(
    _: &PredictTask,
    _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<TaskResult, ModelError> {
    Err(ModelError)
}
/// t
pub fn architecture_of(_: &Path) -> Result<Architecture, ModelError> {
    Err(ModelError)
}
