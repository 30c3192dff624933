//! Weights in a file: safetensors that PyTorch loads too, with the optimizer's state beside them.
//!
//! A weight has the name and the axes of PyTorch's parameter; Adam's moments are `adam.m.<name>` and
//! `adam.v.<name>`, in the same axes. One metadata key, `overtrace`, holds a JSON [`Header`]. A file appears whole or
//! not at all (written beside its place, synced, renamed) and only its owner may read it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use super::ModelError;
use super::network::{Net, Parameter, Role, parameters};
use crate::imaging::Rng;
use crate::records::Architecture;

/// The metadata key.
const KEY: &str = "overtrace";
/// What [`Header::format`] says, of every network: the U-shape network was the first.
const FORMAT: &str = "overtrace unet 1";
/// A header of more bytes than this is no header of ours.
const HEADER_BYTES: u64 = 1 << 20;

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Name and version of this layout.
    pub format: String,
    /// The network's shape.
    pub architecture: Architecture,
    /// Optimizer steps taken.
    pub step: u64,
    /// Seed of weights and shuffles.
    pub seed: u64,
    /// The epoch that the weights are of, from 1.
    pub epoch: usize,
}

/// Weights and optimizer state, in memory, in this program's axes.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// What it is.
    pub header: Header,
    /// Each parameter's name, values and moments (means, then means of squares), in the order of `parameters`.
    pub learned: Vec<(String, Vec<f32>, Vec<f32>)>,
}

impl Header {
    /// A header of this version's format.
    pub fn new(architecture: Architecture, step: u64, seed: u64, epoch: usize) -> Header {
        Header {
            format: FORMAT.to_string(),
            architecture,
            step,
            seed,
            epoch,
        }
    }
}

/// One tensor on its way to a file: its axes are turned when its turn comes.
struct Turned<'a> {
    parameter: &'a Parameter,
    shape: Vec<usize>,
    values: &'a [f32],
}

impl View for Turned<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let order = file_order(self.parameter);
        Cow::Owned(order.flat_map(|at| self.values[at].to_le_bytes()).collect())
    }
    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// A parameter's shape in a file.
fn file_shape(parameter: &Parameter) -> Vec<usize> {
    let Parameter { inputs, outputs, .. } = *parameter;
    match parameter.role {
        Role::Conv => [&[outputs, inputs], parameter.axes()].concat(),
        Role::UpConv => [&[inputs, outputs], parameter.axes()].concat(),
        Role::Scale | Role::Bias => vec![outputs],
    }
}

/// Where the values of a file lie in this program's axes, in the file's order. Both kinds of weight are the same turn:
/// `[ky][kx][a][b]` here is `[b][a][ky][kx]` there.
fn file_order(parameter: &Parameter) -> impl Iterator<Item = usize> + use<> {
    let (taps, a, b) = match parameter.role {
        Role::Conv => (parameter.taps(), parameter.inputs, parameter.outputs),
        Role::UpConv => (parameter.taps(), parameter.outputs, parameter.inputs),
        Role::Scale | Role::Bias => (1, 1, parameter.outputs),
    };
    (0..taps * a * b).map(move |i| (i % taps * a + i / taps % a) * b + i / (taps * a))
}

/// Writes `checkpoint` to `path`: whole or not at all, mode 0600. Only a training that goes on needs the optimizer, which is
/// twice as much as the weights.
///
/// # Errors
/// [`ModelError::Io`].
pub fn save(checkpoint: &Checkpoint, path: &Path, with_optimizer: bool) -> Result<(), ModelError> {
    let list = parameters(&checkpoint.header.architecture);
    let mut tensors = Vec::new();
    for (parameter, (name, weight, moments)) in list.iter().zip(&checkpoint.learned) {
        let (means, squares) = moments.split_at(weight.len());
        let parts = [
            (name.clone(), &weight[..]),
            (format!("adam.m.{name}"), means),
            (format!("adam.v.{name}"), squares),
        ];
        let count = if with_optimizer { 3 } else { 1 };
        for (name, values) in parts.into_iter().take(count) {
            tensors.push((
                name,
                Turned {
                    parameter,
                    shape: file_shape(parameter),
                    values,
                },
            ));
        }
    }
    let header = serde_json::to_string(&checkpoint.header).expect("a header is plain numbers and text");
    let failed = ModelError::io("writing", path);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(folder)
        .map_err(&failed)?
        .into_temp_path();
    let metadata = HashMap::from([(KEY.to_string(), header)]);
    safetensors::serialize_to_file(tensors, Some(metadata), &temporary)
        .map_err(|error| failed(std::io::Error::other(error)))?;
    // The library writes a private file of its own over the temporary one; that one is synced.
    File::open(&temporary)
        .and_then(|file| file.sync_all())
        .map_err(&failed)?;
    temporary.persist(path).map_err(|error| failed(error.error))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(&failed)
}

/// The header of the checkpoint at `path`, without reading its weights.
///
/// # Errors
/// [`ModelError::Io`] and [`ModelError::Checkpoint`].
pub fn header_of(path: &Path) -> Result<Header, ModelError> {
    let failed = ModelError::io("reading", path);
    let mut file = File::open(path).map_err(&failed)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(&failed)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES {
        return Err(damaged(path, "it is no safetensors file"));
    }
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).map_err(&failed)?;
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "__metadata__")]
        metadata: HashMap<String, String>,
    }
    let parsed: Metadata = serde_json::from_slice(&text).map_err(|error| damaged(path, error))?;
    let text = parsed
        .metadata
        .get(KEY)
        .ok_or_else(|| damaged(path, "its metadata has no key `overtrace`"))?;
    let header: Header = serde_json::from_str(text).map_err(|error| damaged(path, error))?;
    if header.format != FORMAT {
        return Err(damaged(
            path,
            format!("its format is {:?}, this program reads {FORMAT:?}", header.format),
        ));
    }
    Ok(header)
}

/// The shape of the network whose weights are at `path`; every weight is read and held against it.
///
/// # Errors
/// [`ModelError::Io`] and [`ModelError::Checkpoint`].
pub fn architecture_of(path: &Path) -> Result<Architecture, ModelError> {
    let held = header_of(path)?.architecture;
    load(path, &held, None, &Device::Cpu)?;
    Ok(held)
}

/// The weights at `path` for a network of shape `wanted`, in this program's axes and without a graph.
///
/// * `head`: draws the last layer anew where the file has another number of classes; `None` makes that an error
///
/// # Errors
/// [`ModelError::Shape`] if the network at `path` differs in anything else, [`ModelError::Io`] and
/// [`ModelError::Checkpoint`].
pub fn load(
    path: &Path,
    wanted: &Architecture,
    head: Option<&Rng>,
    device: &Device,
) -> Result<HashMap<String, Tensor>, ModelError> {
    let held = header_of(path)?.architecture;
    let classes = (held.classes != wanted.classes && head.is_none()).then(|| {
        let [held, wanted] = [held.classes, wanted.classes].map(|classes| classes.to_string());
        ("classes", "labels", held, wanted)
    });
    if let Some((key, setting, held, wanted)) = held.difference(wanted).or(classes) {
        return Err(ModelError::Shape {
            path: path.to_path_buf(),
            key,
            held,
            wanted,
            setting,
        });
    }
    let bytes = std::fs::read(path).map_err(ModelError::io("reading", path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(path, error))?;
    let mut weights = HashMap::new();
    for parameter in parameters(wanted) {
        let values = match head {
            Some(rng) if held.classes != wanted.classes && parameter.is_head() => parameter.drawn(rng),
            _ => read(&file, &parameter.name, &parameter).map_err(|problem| damaged(path, problem))?,
        };
        let tensor = Tensor::from_vec(values, parameter.shape(), device)?;
        weights.insert(parameter.name, tensor);
    }
    Ok(weights)
}

/// Everything in the bytes of a checkpoint that [`save`] wrote: weights and optimizer, to go on with; `path` is for the words
/// of an error.
///
/// # Errors
/// [`ModelError::Checkpoint`] where they are not the checkpoint of a network of this shape, with its optimizer.
pub fn restore(path: &Path, bytes: &[u8], shape: &Architecture) -> Result<Checkpoint, ModelError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(path, error))?;
    let header = header_of(path)?;
    if header.architecture != *shape {
        return Err(damaged(path, "it is of a network of another shape"));
    }
    let learned = parameters(shape).into_iter().map(|parameter| {
        let named = |name: &str| read(&file, name, &parameter);
        let moments = [
            named(&format!("adam.m.{}", parameter.name))?,
            named(&format!("adam.v.{}", parameter.name))?,
        ];
        Ok((parameter.name.clone(), named(&parameter.name)?, moments.concat()))
    });
    let learned = learned
        .collect::<Result<_, String>>()
        .map_err(|problem| damaged(path, problem))?;
    Ok(Checkpoint { header, learned })
}

/// The network of shape `wanted` whose weights are at `path`.
///
/// # Errors
/// As [`load`].
pub fn load_network(path: &Path, wanted: &Architecture, device: &Device) -> Result<Net, ModelError> {
    Ok(Net::new(*wanted, load(path, wanted, None, device)?)?)
}

fn read(file: &SafeTensors<'_>, name: &str, parameter: &Parameter) -> Result<Vec<f32>, String> {
    let tensor = file.tensor(name).map_err(|error| error.to_string())?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != file_shape(parameter) {
        return Err(format!("{name} is {:?} {:?}", tensor.dtype(), tensor.shape()));
    }
    let mut values = vec![0.0; parameter.len()];
    for (at, bytes) in file_order(parameter).zip(tensor.data().as_chunks().0) {
        values[at] = f32::from_le_bytes(*bytes);
    }
    Ok(values)
}

fn damaged(path: &Path, problem: impl ToString) -> ModelError {
    ModelError::Checkpoint {
        path: path.to_path_buf(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::settings::{Network, Networks};

    const SHAPE: Architecture = Architecture {
        networks: Networks::one(Network::UNet),
        channels: 2,
        classes: 3,
        base_channels: 2,
        slices: 1,
        deep_supervision: false,
    };

    fn written(folder: &Path) -> (std::path::PathBuf, Checkpoint) {
        let learned = parameters(&SHAPE).into_iter().map(|parameter| {
            let values: Vec<f32> = (0..parameter.len()).map(|i| i as f32).collect();
            (parameter.name, values.clone(), [values.clone(), values].concat())
        });
        let checkpoint = Checkpoint {
            header: Header::new(SHAPE, 7, 8, 9),
            learned: learned.collect(),
        };
        let path = folder.join("weights.safetensors");
        save(&checkpoint, &path, true).unwrap();
        (path, checkpoint)
    }

    #[test]
    fn what_is_saved_is_loaded_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, checkpoint) = written(folder.path());
        assert_eq!(header_of(&path).unwrap(), checkpoint.header);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing temporary is left"
        );
        let weights = load(&path, &SHAPE, None, &Device::Cpu).unwrap();
        for (name, values, _) in checkpoint.learned {
            let loaded: Vec<f32> = weights[&name].flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(loaded, values, "{name}");
        }
    }

    /// Output 1, input 0, tap (2, 1) of 2 -> 2 channels: 7th tap (counted from 0), so 7 x 4 + 0 x 2 + 1 here, and
    /// 1 x 18 + 0 x 9 + 7 in a file.
    #[test]
    fn a_file_has_pytorchs_axes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = written(folder.path());
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let weight = file.tensor("down.0.1.weight").unwrap();
        assert_eq!(weight.shape(), [2, 2, 3, 3]);
        assert_eq!(weight.data().as_chunks::<4>().0[25], 29f32.to_le_bytes());
        assert_eq!(file.tensor("up.0.0.weight").unwrap().shape(), [32, 16, 2, 2]);
        assert_eq!(file.tensor("adam.v.head.bias").unwrap().shape(), [3]);
    }

    #[test]
    fn another_number_of_classes_keeps_all_but_the_head() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = written(folder.path());
        let five = Architecture { classes: 5, ..SHAPE };
        let error = load(&path, &five, None, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("classes = 3, but 5 is asked for"), "{error}");
        let weights = load(&path, &five, Some(&Rng::new(1)), &Device::Cpu).unwrap();
        assert_eq!(weights["head.weight"].dims(), [1, 1, 2, 5]);
        assert_eq!(weights["down.0.0.bias"].to_vec1::<f32>().unwrap(), [0.0, 1.0]);
        let wider = Architecture {
            base_channels: 4,
            ..SHAPE
        };
        let error = load(&path, &wider, Some(&Rng::new(1)), &Device::Cpu)
            .unwrap_err()
            .to_string();
        assert!(error.contains("set model.base_channels = 2"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_checkpoint_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = written(folder.path());
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(
            load(&path, &SHAPE, None, &Device::Cpu),
            Err(ModelError::Checkpoint { .. })
        ));
        std::fs::write(&path, b"a poem, not weights").unwrap();
        assert!(matches!(
            architecture_of(&path),
            Err(ModelError::Checkpoint { .. })
        ));
        assert!(matches!(
            architecture_of(&folder.path().join("none")),
            Err(ModelError::Io { .. })
        ));
    }
}
