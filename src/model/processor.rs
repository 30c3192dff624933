//! What computes: the CPU or one GPU.

use super::ModelError;
use super::error::pool;
use super::kernels::instructions;
use super::unet::UNet;
use crate::records::Machine;
use crate::settings::{Device, Precision};

/// Tiles that keep a GPU busy.
const FILLING: usize = 256;

/// What computes, once it was found to be there.
#[derive(Debug, Clone)]
pub struct Processor {
    device: candle_core::Device,
    gpus: usize,
}

impl Processor {
    /// The CPU.
    pub const CPU: Processor = Processor {
        device: candle_core::Device::Cpu,
        gpus: 0,
    };

    /// What `choice` names; of several GPUs, [`Device::Auto`] is the first.
    ///
    /// # Errors
    /// [`ModelError::NoDevice`] where it is not there, or this program cannot use it.
    pub fn open(choice: Device) -> Result<Processor, ModelError> {
        match choice {
            Device::Cpu => Ok(Processor::CPU),
            Device::Auto if cfg!(not(feature = "cuda")) => Ok(Processor::CPU),
            Device::Auto => Processor::cuda(0),
            Device::Cuda(n) => Processor::cuda(n),
        }
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
        let (device, gpus) = super::cuda::open(n).map_err(|problem| ModelError::NoDevice {
            device: Device::Cuda(n),
            problem,
        })?;
        Ok(Processor { device, gpus })
    }

    /// GPUs there are; 0 for the CPU.
    pub fn gpus(&self) -> usize {
        self.gpus
    }

    /// Threads for the work: on a GPU one, since what belongs to the driver stays on its thread.
    ///
    /// # Errors
    /// [`ModelError::Threads`].
    pub(super) fn pool(&self, threads: usize) -> Result<rayon::ThreadPool, ModelError> {
        pool(if self.gpus > 0 { 1 } else { threads })
    }

    /// Tiles to draw at a time: those of the settings, on a GPU enough to fill it.
    pub(super) fn drawing_batch(&self, batch: usize) -> usize {
        if self.gpus > 0 { batch.max(FILLING) } else { batch }
    }

    /// A network that only draws from now on, with weights of the numbers it draws with.
    ///
    /// # Errors
    /// None on the CPU.
    pub(super) fn drawing(&self, net: &UNet, precision: Precision) -> candle_core::Result<UNet> {
        if self.gpus > 0 && precision == Precision::Bf16 {
            Ok(net.narrowed()?.frozen())
        } else {
            Ok(net.frozen())
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
            threads: if threads == 0 { cores } else { threads },
            instructions: instructions().into(),
            precision: match self.gpus {
                0 => Precision::F32.to_string(),
                _ => precision.to_string(),
            },
            gpu,
        }
    }
}
