//! Numbers against PyTorch: `fixtures/unet_torch.safetensors`, made as `fixtures/unet_torch.md` says.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::loss::{Answer, probabilities};
use super::network::{Net, Role, parameters};
use crate::records::Architecture;
use crate::settings::{Loss, Networks};

/// Ours to PyTorch's axes.
fn turned(tensor: &Tensor, role: Role) -> Tensor {
    match role {
        Role::Scale | Role::Bias => tensor.clone(),
        Role::Conv | Role::UpConv => tensor.permute((3, 2, 0, 1)).unwrap().contiguous().unwrap(),
    }
}

/// The largest difference, in parts of the largest expected value.
fn difference(got: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(got.dims(), expected.dims());
    let values = |t: &Tensor| -> Vec<f64> {
        t.to_dtype(DType::F64)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    };
    let (got, expected) = (values(got), values(expected));
    let largest = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
    got.iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
        / largest
}

/// Holds output, loss and every gradient, computed in `kind`, against those in a file; the largest difference of each.
fn differences(path: &str, kind: DType) -> Vec<(String, f64)> {
    let file = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let shape = Architecture {
        networks: Networks::default(),
        channels: 1,
        classes: 4,
        base_channels: file["w/head.weight"].dims()[1],
        slices: 1,
        deep_supervision: false,
    };
    let weights: HashMap<String, Tensor> = parameters(&shape)
        .into_iter()
        .map(|p| {
            let weight = file[&format!("w/{}", p.name)].to_dtype(kind).unwrap();
            let ours = match p.role {
                Role::Scale | Role::Bias => weight,
                // PyTorch's [b][a][ky][kx] is [ky][kx][a][b] here, for both kinds of weight.
                Role::Conv | Role::UpConv => weight.permute((2, 3, 1, 0)).unwrap().contiguous().unwrap(),
            };
            (p.name, ours)
        })
        .collect();
    let net = Net::new(shape, weights).unwrap();
    let images = file["x"].to_dtype(kind).unwrap();
    let images = images.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    let (mut logits, trace) = net.forward_traced(&[&images]).unwrap();
    let logits = logits.members.remove(0);

    let p = probabilities(&logits).unwrap().permute((0, 3, 1, 2)).unwrap();
    let mut off = vec![("output".to_string(), difference(&p, &file["p"]))];

    let answer = Answer::new(Loss::Dice, &logits, &file["y"]).unwrap();
    let loss = Tensor::new(&[answer.loss().unwrap()], &Device::Cpu).unwrap();
    off.push(("loss".into(), difference(&loss, &file["loss"])));

    let gradient = answer.gradient().unwrap();
    let grads = net.gradients(trace, vec![gradient]).unwrap();
    for parameter in parameters(&shape) {
        let grad = turned(&grads[&parameter.name], parameter.role);
        let slope = &file[&format!("g/{}", parameter.name)];
        off.push((parameter.name, difference(&grad, slope)));
    }
    off
}

/// In f64 they differ by what a file of f32 rounds off. In f32 a sum next to 0 may fall on the other side of a ReLU, one of half a
/// million: every gradient behind it was off by some 1e-3 where the last layer had such a one.
fn check(path: &str) {
    let (exact, rounded) = (differences(path, DType::F64), differences(path, DType::F32));
    for ((name, exact), (_, rounded)) in exact.iter().zip(&rounded) {
        println!("{name:<20} in f64 {exact:.1e}, in f32 {rounded:.1e}");
    }
    for (kind, most, all) in [("f64", 2e-7, exact), ("f32", 1e-4, rounded)] {
        for (name, off) in all {
            assert!(off <= most, "{name} in {kind} is off by {off}");
        }
    }
}

#[test]
fn output_loss_and_every_gradient_are_pytorchs() {
    check(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/unet_torch.safetensors"
    ));
}

/// The same of any width, from a file that `benches/numbers.sh` makes.
#[test]
#[ignore = "needs the file that benches/numbers.sh makes"]
fn numbers_of_any_width_are_pytorchs() {
    check(&std::env::var("NUMBERS").expect("NUMBERS names the file"));
}
