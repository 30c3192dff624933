//! What computes: the CPU or one GPU.

#[cfg(feature = "cuda")]
use super::judge::Judging;
use super::kernels::instructions;
#[cfg(feature = "cuda")]
use super::learning::Learning;
use super::network::Net;
use super::{ModelError, Report};
#[cfg(feature = "cuda")]
use crate::imaging::Rng;
#[cfg(feature = "cuda")]
use crate::records::Architecture;
use crate::records::{DeviceUse, Machine, Progress};
#[cfg(feature = "cuda")]
use crate::settings::Loss;
use crate::settings::{Device, Network, Networks, Precision};
#[cfg(feature = "cuda")]
use candle_core::{DType, Tensor};

/// Tiles that keep a GPU busy.
const FILLING: usize = 256;

/// What computes, once it was found to be there.
#[derive(Debug, Clone)]
pub struct Processor {
    device: candle_core::Device,
    gpus: Vec<usize>,
}

impl Processor {
    /// The CPU.
    pub const CPU: Processor = Processor {
        device: candle_core::Device::Cpu,
        gpus: Vec::new(),
    };

    /// What `choice` names; of several GPUs, [`Device::Auto`] is the first that can be had.
    ///
    /// # Errors
    /// [`ModelError::NoDevice`] where it is not there, or this program cannot use it; of [`Device::Auto`], of the first GPU.
    pub fn open(choice: Device) -> Result<Processor, ModelError> {
        match choice {
            Device::Cpu => Ok(Processor::CPU),
            Device::Auto if cfg!(not(feature = "cuda")) => Ok(Processor::CPU),
            Device::Auto => Processor::cuda(0).or_else(|why| {
                let others = 1..Processor::gpu_count();
                others.map(Processor::cuda).find_map(Result::ok).ok_or(why)
            }),
            Device::Cuda(n) => Processor::cuda(n),
        }
    }

    /// GPUs there are, whether or not they can be had.
    fn gpu_count() -> usize {
        #[cfg(feature = "cuda")]
        return super::cuda::count().unwrap_or(0);
        #[cfg(not(feature = "cuda"))]
        0
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda(n: usize) -> Result<Processor, ModelError> {
        Err(ModelError::NoDevice {
            device: Device::Cuda(n),
            problem: "this program computes on the CPU alone".into(),
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda(n: usize) -> Result<Processor, ModelError> {
        let device = super::cuda::open(n).map_err(|problem| ModelError::NoDevice {
            device: Device::Cuda(n),
            problem,
        })?;
        let others = (0..Processor::gpu_count()).filter(|other| *other != n);
        let gpus = [n].into_iter().chain(others).collect();
        let processor = Processor { device, gpus };
        // A driver or a library that does not fit says so only when it is used.
        processor.try_out().map_err(|error| ModelError::NoDevice {
            device: Device::Cuda(n),
            problem: format!("its driver or libraries do not fit: {error}"),
        })?;
        Ok(processor)
    }

    /// A small network there and back, and its drawing in bf16.
    #[cfg(feature = "cuda")]
    fn try_out(&self) -> candle_core::Result<()> {
        let shape = Architecture {
            networks: Networks::default(),
            channels: 1,
            classes: 2,
            base_channels: 8,
            slices: 1,
            deep_supervision: false,
        };
        let mut learning = Learning::drawn(shape, &Rng::new(1), Loss::Dice, 1e-4, &self.device)?;
        let images = Tensor::ones((1, 16, 16, 1), DType::F32, &self.device)?;
        let classes = Tensor::ones((1, 16, 16), DType::U8, &self.device)?;
        for loss in learning.step(&[(images.clone(), classes.clone())], 1.0)? {
            loss.loss()?;
        }
        Judging::begin(&learning.net.narrowed()?, &images, &[[16, 16]])?.end()?;
        Ok(())
    }

    /// How much of it is in use; `None` for the CPU.
    pub fn usage(&self) -> Option<DeviceUse> {
        #[cfg(feature = "cuda")]
        return super::cuda::usage(&self.device);
        #[cfg(not(feature = "cuda"))]
        None
    }

    /// The numbers of the GPUs that there are, of the one that this is first; none for the CPU.
    pub fn gpus(&self) -> &[usize] {
        &self.gpus
    }

    /// Whether it is a GPU.
    pub fn is_gpu(&self) -> bool {
        !self.gpus.is_empty()
    }

    /// Threads for the work, 0 for every core: on a GPU one, since what cuDNN and cuBLAS begin belongs to a thread.
    ///
    /// # Errors
    /// [`ModelError::Threads`].
    pub(super) fn pool(&self, threads: usize) -> Result<rayon::ThreadPool, ModelError> {
        let threads = if self.is_gpu() { 1 } else { threads };
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|source| ModelError::Threads { threads, source })
    }

    /// Tiles to draw at a time: those of the settings, on a GPU enough to fill it.
    pub(super) fn drawing_batch(&self, batch: usize) -> usize {
        if self.is_gpu() { batch.max(FILLING) } else { batch }
    }

    /// The numbers that these networks draw with where `precision` is asked for: the CPU knows f32 alone, and only the U-shape
    /// network has layers of bf16.
    pub(super) fn drawn_in(&self, networks: Networks, precision: Precision) -> Precision {
        match networks == Networks::one(Network::UNet) && self.is_gpu() {
            true => precision,
            false => self.learnt_in(precision),
        }
    }

    /// The numbers that any network learns with where `precision` is asked for.
    pub(super) fn learnt_in(&self, precision: Precision) -> Precision {
        match precision {
            _ if !self.is_gpu() => Precision::F32,
            Precision::Bf16 => Precision::Tf32,
            _ => precision,
        }
    }

    /// A network that only draws from now on, about `batch` images at a time, with weights of the numbers it draws with.
    ///
    /// # Errors
    /// None on the CPU.
    pub(super) fn drawing(&self, net: &Net, batch: usize, precision: Precision) -> candle_core::Result<Net> {
        if self.drawn_in(net.shape().networks, precision) == Precision::Bf16 {
            Ok(net.narrowed()?.frozen(batch))
        } else {
            Ok(net.frozen(batch))
        }
    }

    /// Where tensors lie.
    pub(super) fn device(&self) -> &candle_core::Device {
        &self.device
    }

    /// Sets the numbers that convolutions are computed with from now on; the CPU knows only f32.
    pub(super) fn set_precision(&self, precision: Precision) {
        #[cfg(feature = "cuda")]
        super::cuda::set_precision(precision);
        #[cfg(not(feature = "cuda"))]
        let _ = precision;
    }

    /// What it is, for those who read its times.
    pub fn machine(&self, threads: usize, precision: Precision) -> Machine {
        let known = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = known
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        #[cfg(feature = "cuda")]
        let gpu = super::cuda::name(&self.device);
        #[cfg(not(feature = "cuda"))]
        let gpu = None;
        Machine {
            processor: name.map_or("unknown".into(), |(_, name)| name.trim().to_string()),
            cores,
            threads: match threads {
                _ if self.is_gpu() => 1,
                0 => cores,
                _ => threads,
            },
            instructions: instructions().into(),
            precision: match self.is_gpu() {
                false => Precision::F32.to_string(),
                true => precision.to_string(),
            },
            gpu,
        }
    }
}

/// Does `work` with `batch` tiles at a time; where a GPU's memory does not hold them, with half as many from then on, and
/// says so.
///
/// # Errors
/// Those of `work`; [`ModelError::Full`] where there is no room for one.
pub(super) fn with_batch<R>(
    batch: &mut usize,
    report: &mut Report<'_>,
    mut work: impl FnMut(usize, &mut Report<'_>) -> Result<R, ModelError>,
) -> Result<R, ModelError> {
    loop {
        match work(*batch, report) {
            Err(ModelError::Compute(error)) if ModelError::is_full(&error) && *batch > 1 => {
                *batch /= 2;
                // Whether to go on is asked again at the next step.
                let _ = report(Progress::Notice(format!(
                    "the GPU's memory is full: {batch} tiles at a time from here on"
                )));
            }
            Err(ModelError::Compute(error)) if ModelError::is_full(&error) => {
                return Err(ModelError::Full(error));
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    #[test]
    fn numbers_are_those_that_there_are_layers_of() {
        let gpu = Processor {
            gpus: vec![0],
            ..Processor::CPU
        };
        let (one, two) = (Networks::one(Network::UNet), Networks::one(Network::VoxResNet));
        let said = |processor: &Processor, precision| {
            let drawn = [one, two].map(|networks| processor.drawn_in(networks, precision));
            (drawn, processor.learnt_in(precision))
        };
        use Precision::{Bf16, F32, Tf32};
        assert_eq!(said(&gpu, Bf16), ([Bf16, Tf32], Tf32));
        assert_eq!(said(&gpu, Tf32), ([Tf32; 2], Tf32));
        assert_eq!(said(&gpu, F32), ([F32; 2], F32));
        assert_eq!(said(&Processor::CPU, Bf16), ([F32; 2], F32));
    }

    #[test]
    fn a_full_gpu_gets_half_as_many_tiles_until_they_fit() {
        let (mut batch, mut said) = (16, Vec::new());
        let mut report = |progress| {
            said.push(progress);
            ControlFlow::Continue(())
        };
        let full = |tiles: usize| {
            let error = candle_core::Error::msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
            if tiles > 5 { Err(error.into()) } else { Ok(tiles) }
        };
        assert_eq!(
            with_batch(&mut batch, &mut report, |tiles, _| full(tiles)).unwrap(),
            4
        );
        assert_eq!((batch, said.len()), (4, 2));
        assert!(matches!(&said[1], Progress::Notice(words) if words.contains("4 tiles")));
    }

    #[test]
    fn one_tile_that_does_not_fit_and_other_errors_are_errors() {
        let mut batch = 2;
        let mut asked = Vec::new();
        let error = with_batch(&mut batch, &mut |_| ControlFlow::Continue(()), |tiles, _| {
            asked.push(tiles);
            Err::<(), _>(candle_core::Error::msg("CUBLAS_STATUS_ALLOC_FAILED").into())
        });
        let words = error.unwrap_err().to_string();
        assert!(
            words.contains("ALLOC_FAILED") && words.contains("model.base_channels"),
            "{words}"
        );
        assert_eq!(asked, [2, 1]);
        let mut calls = 0;
        let error = with_batch(&mut 8, &mut |_| ControlFlow::Continue(()), |_, _| {
            calls += 1;
            Err::<(), _>(candle_core::Error::msg("shapes").into())
        });
        assert!(error.is_err() && calls == 1);
    }
}
