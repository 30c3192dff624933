//! How much of a GPU is in use.

use std::sync::OnceLock;

use candle_core::Device;
use nvml_wrapper::Nvml;

use crate::records::DeviceUse;

/// The management library, where there is one; it is loaded once, and lives as long as the worker.
static NVML: OnceLock<Option<Nvml>> = OnceLock::new();

/// Memory and use of the GPU as a whole, by everybody on it; `None` for the CPU, and where the driver does not say.
pub fn usage(device: &Device) -> Option<DeviceUse> {
    let Device::Cuda(device) = device else {
        return None;
    };
    let context = device.cuda_stream().context().clone();
    let (free, total) = context.mem_get_info().ok()?;
    let busy = || {
        let nvml = NVML.get_or_init(|| Nvml::init().ok()).as_ref()?;
        // Its numbers are another order than CUDA's.
        let uuid = context.uuid().ok()?.bytes.map(|byte| byte as u8);
        let hex: Vec<String> = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [0..4, 4..6, 6..8, 8..10, 10..16].map(|part| hex[part].concat());
        let gpu = nvml.device_by_uuid(format!("GPU-{}", parts.join("-"))).ok()?;
        Some(gpu.utilization_rates().ok()?.gpu)
    };
    Some(DeviceUse {
        device: format!("{} ({})", context.name().ok()?, context.ordinal()),
        used_bytes: total.saturating_sub(free) as u64,
        total_bytes: total as u64,
        busy_percent: busy(),
    })
}
