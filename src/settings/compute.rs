//! Where a round computes, and with what numbers.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text::as_text;

/// `[compute]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compute {
    /// What computes: training on the first, drawing on all of them.
    pub device: Devices,
    /// Numbers of training on a GPU.
    pub precision: Precision,
    /// Numbers of drawing on a GPU.
    pub drawing_precision: Precision,
    /// The program that computes on GPUs; empty for `overtrace-cuda` beside `overtrace`.
    pub cuda_worker: PathBuf,
}

impl Default for Compute {
    fn default() -> Self {
        Compute {
            device: Devices(vec![Device::Auto]),
            precision: Precision::Tf32,
            drawing_precision: Precision::Tf32,
            cuda_worker: PathBuf::new(),
        }
    }
}

/// Numbers of convolutions on a GPU; a CPU always computes in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    F32,
    /// Products of 10-bit mantissas, sums in single precision.
    Tf32,
    /// Products of 7-bit mantissas, sums in single precision: for drawing alone.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "TF32",
            Precision::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Precision, String> {
        match text {
            "f32" => Ok(Precision::F32),
            "tf32" => Ok(Precision::Tf32),
            "bf16" => Ok(Precision::Bf16),
            _ => Err(format!("{text:?} has to be \"f32\", \"tf32\" or \"bf16\"")),
        }
    }
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// Every GPU there is; the CPU where there is none.
    Auto,
    /// All cores.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Device::Cuda)
                .ok_or_else(|| {
                    format!("device {text:?} has to be \"auto\", \"cpu\" or \"cuda:0\", \"cuda:1\", ..")
                }),
        }
    }
}

/// One device or several, separated by commas in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Devices(Vec<Device>);

impl Devices {
    /// At least one.
    pub fn list(&self) -> &[Device] {
        &self.0
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(Device::to_string).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Devices {
    type Err = String;

    fn from_str(text: &str) -> Result<Devices, String> {
        let list: Vec<Device> = text
            .split(',')
            .map(|name| name.trim().parse())
            .collect::<Result<_, _>>()?;
        match list[..] {
            [_] => Ok(Devices(list)),
            _ if list.contains(&Device::Auto) => Err(format!("device {text:?}: \"auto\" stands alone")),
            _ => match (1..list.len()).find(|&n| list[n] != Device::Cpu && list[..n].contains(&list[n])) {
                Some(n) => Err(format!("device {text:?}: \"{}\" stands there twice", list[n])),
                None => Ok(Devices(list)),
            },
        }
    }
}

as_text!(Devices);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for text in ["auto", "cpu", "cuda:3", "cuda:0,cuda:1", "cpu,cpu"] {
            let devices: Devices = text.parse().unwrap();
            assert_eq!(devices.to_string(), text);
        }
        assert_eq!(
            "cuda:0, cuda:12".parse::<Devices>().unwrap().list(),
            [Device::Cuda(0), Device::Cuda(12)]
        );
    }

    #[test]
    fn what_is_no_device_is_named_with_what_it_could_be() {
        for text in ["gpu", "cuda", "cuda:", "cuda:-1", "", "cpu,"] {
            let error = text.parse::<Devices>().unwrap_err();
            assert!(error.contains("\"cuda:0\""), "{text}: {error}");
        }
        assert!(
            "auto,cpu"
                .parse::<Devices>()
                .unwrap_err()
                .contains("stands alone")
        );
        let error = "cuda:1,cpu,cuda:1".parse::<Devices>().unwrap_err();
        assert!(error.contains("\"cuda:1\" stands there twice"), "{error}");
        assert_eq!("cpu,cpu".parse::<Devices>().unwrap().list().len(), 2);
    }
}
