//! How fast the network is, printed: `cargo test --release --lib speed -- --ignored --nocapture
//! --test-threads=1`.

use std::ops::ControlFlow;
use std::time::Instant;

use candle_core::{Device, Tensor, Var};

use super::adam::Adam;
use super::data::Case;
use super::loss::loss;
use super::predict::draw;
use super::unet::{UNet, parameters};
use crate::imaging::{Grid, Plane, Rng, Volume};
use crate::records::{Architecture, CaseId};
use crate::settings::{Intensity, Loss};

/// Multiply-adds count twice; the head and the up-convolutions included.
fn flop_per_tile(shape: &Architecture) -> f64 {
    let pixels = |name: &str| {
        let mut parts = name.split('.');
        let (part, n) = (
            parts.next().unwrap(),
            parts.next().unwrap().parse::<usize>().unwrap_or(0),
        );
        let layer = parts.next();
        match (part, layer) {
            ("down", _) => 4096 >> (2 * n),
            // An up-convolution's every input pixel meets all its weights.
            ("up", Some("0")) => 16 << (2 * n),
            ("up", _) => 64 << (2 * n),
            _ => 4096,
        }
    };
    let weights = parameters(shape)
        .into_iter()
        .filter(|p| p.name.ends_with("weight"));
    weights
        .map(|p| 2.0 * p.len() as f64 * pixels(&p.name) as f64)
        .sum()
}

#[test]
#[ignore = "a measurement, not a check"]
fn forward_and_training_step_at_every_width() {
    for base_channels in [8, 16, 32, 64] {
        let shape = Architecture {
            channels: 1,
            classes: 4,
            base_channels,
        };
        let mut rng = Rng::new(1);
        let pixels = 16 * 64 * 64;
        let images: Vec<f32> = (0..pixels).map(|_| rng.uniform() as f32).collect();
        let images = Tensor::from_vec(images, (16, 64, 64, 1), &Device::Cpu).unwrap();
        let classes: Vec<u8> = (0..pixels).map(|_| rng.below(4) as u8).collect();
        let classes = Tensor::from_vec(classes, (16, 64, 64), &Device::Cpu).unwrap();
        let net = UNet::drawn(shape, &rng).unwrap();
        let flop = 16.0 * flop_per_tile(&shape);
        let median = |name: &str, flop: f64, work: &mut dyn FnMut()| {
            work();
            let mut seconds: Vec<f64> = (0..7)
                .map(|_| {
                    let start = Instant::now();
                    work();
                    start.elapsed().as_secs_f64()
                })
                .collect();
            seconds.sort_by(f64::total_cmp);
            println!(
                "base {base_channels:2} {name}: {:7.1} ms, {:5.1} GFLOP/s",
                seconds[3] * 1e3,
                flop / seconds[3] / 1e9
            );
        };
        median("forward", flop, &mut || drop(net.forward(&images).unwrap()));
        let weights: Vec<(String, Var)> = parameters(&shape)
            .into_iter()
            .map(|p| {
                (
                    p.name.clone(),
                    Var::from_vec(p.drawn(&rng), p.shape(), &Device::Cpu).unwrap(),
                )
            })
            .collect();
        let tensors = weights
            .iter()
            .map(|(name, var)| (name.clone(), var.as_tensor().clone()))
            .collect();
        let net = UNet::new(shape, tensors).unwrap();
        let mut adam = Adam::new(weights, 1e-4).unwrap();
        median("step   ", 3.0 * flop, &mut || {
            let logits = net.forward(&images).unwrap();
            let grads = loss(Loss::Dice, &logits, &classes).unwrap().backward().unwrap();
            adam.step(&grads).unwrap();
        });
    }
}

/// The volume of the paper's segmentation times: 256 x 128 x 256, every tile with signal.
#[test]
#[ignore = "a measurement, not a check"]
fn drawing_a_volume() {
    let grid = Grid::new([256, 128, 256], [0.9375, 1.5, 0.9375]);
    let volume = Volume {
        grid,
        voxels: vec![1.0; grid.len()],
    };
    let id = CaseId::new("volume").unwrap();
    let case = Case::new(id, vec![volume], None, Plane(1), Intensity::None, 4).unwrap();
    for base_channels in [16, 32] {
        let shape = Architecture {
            channels: 1,
            classes: 4,
            base_channels,
        };
        let net = UNet::drawn(shape, &Rng::new(1)).unwrap();
        let start = Instant::now();
        draw(&net, &case, 16, &mut || ControlFlow::Continue(())).unwrap();
        println!(
            "base {base_channels} volume: {:.2} s",
            start.elapsed().as_secs_f64()
        );
    }
}
