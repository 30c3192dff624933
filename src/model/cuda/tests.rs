//! Every layer, the loss, Adam and whole networks on the first GPU against the CPU. Skipped, with a notice, where there is none.
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard};

use candle_core::{Device, Result, Tensor};

use super::set_precision;
use crate::imaging::Rng;
use crate::model::Processor;
use crate::model::adam::Adam;
use crate::model::judge::{Judging, judge};
use crate::model::layers::{
    Source, add_before_relu, add_max_pool_gradient, concat, conv, conv_concat, conv_concat_gradients,
    conv_gradients, max_pool, max_pool_gradient, split_channels, up_conv, up_conv_gradients,
};
use crate::model::learning::Learning;
use crate::model::loss::Answer;
use crate::model::network::Net;
use crate::model::place::placed;
use crate::records::{Architecture, BenchTask, Progress, TaskResult};
use crate::settings::{self, Loss, Network, Networks, Precision};

/// One test at a time: the precision is that of the whole program.
static TURN: Mutex<()> = Mutex::new(());

/// The first GPU, computing in f32, for as long as the guard is held.
fn gpu() -> Option<(Device, MutexGuard<'static, ()>)> {
    let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match Processor::open(settings::Device::Cuda(0)) {
        Ok(processor) => {
            set_precision(Precision::F32);
            Some((processor.device().clone(), turn))
        }
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

fn random(shape: &[usize], rng: &mut Rng) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// What `work` makes of the same tensors on both.
fn hold(gpu: &Device, inputs: &[Tensor], work: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>) {
    let there: Vec<Tensor> = inputs.iter().map(|t| t.to_device(gpu).unwrap()).collect();
    let (got, expected) = (work(&there).unwrap(), work(inputs).unwrap());
    assert_eq!(got.len(), expected.len());
    for (n, (got, expected)) in got.iter().zip(&expected).enumerate() {
        assert_eq!(got.dims(), expected.dims());
        let (got, expected) = (values(got), values(expected));
        let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        let off = got
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(off <= 1e-5 * largest, "result {n} is off by {off} of {largest}");
    }
}

#[test]
fn convolutions_are_the_cpu_s_forward_and_backward() {
    let Some((gpu, _turn)) = gpu() else { return };
    let mut rng = Rng::new(1);
    for (shape, outputs, kernel) in [
        ([2, 6, 10, 3], 5, 3),
        ([1, 64, 64, 1], 16, 3),
        ([2, 8, 8, 64], 32, 3),
        ([2, 5, 7, 8], 4, 1),
        ([2, 5, 7, 8], 11, 1),
    ] {
        let inputs = [
            random(&shape, &mut rng),
            random(&[kernel, kernel, shape[3], outputs], &mut rng),
            random(&[outputs], &mut rng),
            random(&[shape[0], shape[1], shape[2], outputs], &mut rng),
        ];
        for source in [Source::Layer, Source::Relu] {
            hold(&gpu, &inputs, |t| {
                let (dx, dw, db) = conv_gradients(&t[0], &t[1], &t[3], source)?;
                let plain = conv(&t[0], &t[1], &t[2], false, None)?;
                let cut = conv(&t[0], &t[1], &t[2], true, None)?;
                Ok(vec![plain, cut, dx.expect("asked for"), dw, db])
            });
        }
    }
}

/// Images beside one another, of channels that cuDNN takes and of others; a batch that is convolved by few inputs or outputs.
#[test]
fn convolutions_of_concatenations_are_the_cpu_s_forward_and_backward() {
    let Some((gpu, _turn)) = gpu() else { return };
    let mut rng = Rng::new(9);
    for (size, in_a, in_b, outputs) in [
        ([2, 8, 8], 16, 16, 32),
        ([1, 32, 32], 64, 64, 64),
        ([2, 6, 10], 3, 5, 6),
    ] {
        let [batch, height, width] = size;
        let inputs = [
            random(&[batch, height, width, in_a], &mut rng),
            random(&[batch, height, width, in_b], &mut rng),
            random(&[3, 3, in_a + in_b, outputs], &mut rng),
            random(&[outputs], &mut rng),
            random(&[batch, height, width, outputs], &mut rng),
        ];
        hold(&gpu, &inputs, |t| {
            let images = [&t[0], &t[1]];
            let plain = conv_concat(images, &t[2], &t[3], false, None)?;
            let cut = conv_concat(images, &t[2], &t[3], true, None)?;
            let ([da, db], dw, by_bias) = conv_concat_gradients(images, &t[2], &t[4])?;
            Ok(vec![plain, cut, da, db, dw, by_bias])
        });
    }
}

#[test]
fn everything_between_convolutions_is_the_cpu_s_forward_and_backward() {
    let Some((gpu, _turn)) = gpu() else { return };
    let mut rng = Rng::new(2);
    let inputs = [
        random(&[2, 4, 6, 8], &mut rng),
        random(&[2, 2, 3, 8], &mut rng),
        random(&[2, 2, 5, 8], &mut rng),
        random(&[5], &mut rng),
        random(&[2, 8, 12, 5], &mut rng),
        random(&[2, 4, 6, 3], &mut rng),
    ];
    hold(&gpu, &inputs, |t| {
        let pooled = max_pool(&t[0])?;
        let unpooled = max_pool_gradient(&t[0], &t[1])?;
        let up = up_conv(&t[0], &t[2], &t[3], None)?;
        let (dx, dw, db) = up_conv_gradients(&t[0], &t[2], &t[4], Source::Relu)?;
        let both = concat(&t[0], &t[5])?;
        let (first, rest) = split_channels(&both, 8)?;
        let sum = t[0].copy()?;
        add_before_relu(&sum, &unpooled, &t[0])?;
        let pooled_too = t[0].copy()?;
        add_max_pool_gradient(&pooled_too, &t[0], &t[1])?;
        Ok(vec![
            pooled, unpooled, up, dx, dw, db, both, first, rest, sum, pooled_too,
        ])
    });
}

#[test]
fn loss_judgement_and_adam_are_the_cpu_s() {
    let Some((gpu, _turn)) = gpu() else { return };
    let mut rng = Rng::new(3);
    let logits = random(&[3, 16, 24, 4], &mut rng);
    let classes: Vec<u8> = (0..3 * 16 * 24).map(|_| rng.below(4) as u8).collect();
    let classes = Tensor::from_vec(classes, (3, 16, 24), &Device::Cpu).unwrap();
    for kind in [Loss::Dice, Loss::Mse, Loss::DiceCe] {
        hold(&gpu, std::slice::from_ref(&logits), |t| {
            let answer = Answer::new(kind, &t[0], &classes.to_device(t[0].device())?)?;
            Ok(vec![
                Tensor::new(&[answer.loss()? as f32], &Device::Cpu)?,
                answer.gradient()?,
            ])
        });
    }
    let sizes = [[16, 24], [16, 7], [3, 24]];
    let (there, here) = (
        judge(&[logits.to_device(&gpu).unwrap()], &sizes).unwrap(),
        judge(&[logits], &sizes).unwrap(),
    );
    assert_eq!((there.classes, there.margins), (here.classes, here.margins));
    let entropies = there
        .class_entropies
        .concat()
        .into_iter()
        .zip(here.class_entropies.concat());
    assert_eq!(entropies.len(), 3 * here.class_entropies[0].len());
    for (there, here) in entropies {
        assert!((there - here).abs() < 1e-6);
    }
    for (there, here) in there.sums.iter().zip(&here.sums) {
        assert_eq!(
            (there.pixels, there.foreground_pixels),
            (here.pixels, here.foreground_pixels)
        );
        assert!((there.margin - here.margin).abs() < 1e-6 && (there.entropy - here.entropy).abs() < 1e-6);
    }
    let inputs = [random(&[1000], &mut rng), random(&[1000], &mut rng)];
    hold(&gpu, &inputs, |t| {
        let mut adam = Adam::new(vec![("w".into(), t[0].clone())], 1e-3)?;
        for _ in 0..3 {
            adam.begin()?;
            adam.end(&HashMap::from([("w".into(), t[1].clone())]))?;
        }
        Ok(vec![adam.learners.remove(0).weight])
    });
}

const SHAPE: Architecture = Architecture {
    networks: Networks::one(Network::UNet),
    channels: 1,
    classes: 4,
    base_channels: 8,
    slices: 1,
    deep_supervision: false,
};

/// Every network's output and every gradient, in f32; the U-shape network's in TF32 and bf16 too, within what their mantissas
/// allow.
#[test]
fn whole_networks_are_the_cpu_s() {
    let Some((gpu, _turn)) = gpu() else { return };
    let run = |network: Network, device: &Device| {
        let shape = Architecture {
            networks: Networks::one(network),
            ..SHAPE
        };
        let net = Net::drawn(shape, &Rng::new(5), device).unwrap();
        let (batch, height, width, channels) = net.field().shape(2);
        let images = random(&[batch, height, width, channels], &mut Rng::new(4));
        let classes = Tensor::from_vec(vec![1u8; batch * 64 * 64], (batch, 64, 64), device).unwrap();
        let (logits, trace) = net.forward_traced(&[&images.to_device(device).unwrap()]).unwrap();
        let all = logits
            .members
            .iter()
            .chain(logits.auxiliary.iter().map(|(_, logits)| logits));
        let gradients = all.map(|logits| {
            let answer = Answer::new(Loss::Dice, logits, &classes).unwrap();
            answer.gradient().unwrap()
        });
        let gradients = net.gradients(trace, gradients.collect()).unwrap();
        (values(&logits.members[0]), gradients)
    };
    let off = |got: &[f32], expected: &[f32]| {
        let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        let off = got
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        off / largest
    };
    for network in [Network::VoxResNet, Network::MultiScale, Network::UNet] {
        let ((logits, gradients), (expected, slopes)) = (run(network, &gpu), run(network, &Device::Cpu));
        assert!(off(&logits, &expected) <= 1e-4, "{network:?}");
        // Of a bias before a normalisation there is nothing but rounding.
        let is_there = |slope: &&Tensor| values(slope).iter().any(|slope| slope.abs() > 1e-6);
        for (name, slope) in slopes.iter().filter(|(_, slope)| is_there(slope)) {
            let off = off(&values(&gradients[name]), &values(slope));
            assert!(off <= 1e-4, "{network:?}, {name}: {off}");
        }
    }
    let images = random(&[2, 64, 64, 1], &mut Rng::new(4));
    let (expected, _) = run(Network::UNet, &Device::Cpu);
    // Weights that stay are laid out once.
    let frozen = Net::drawn(SHAPE, &Rng::new(5), &gpu).unwrap().frozen(16);
    for _ in 0..2 {
        let logits = frozen.forward(&images.to_device(&gpu).unwrap()).unwrap();
        assert!(off(&values(&logits[0]), &expected) <= 1e-4);
    }
    set_precision(Precision::Tf32);
    let (rounded, _) = run(Network::UNet, &gpu);
    println!("TF32 is off by {}", off(&rounded, &expected));
    assert!(off(&rounded, &expected) <= 1e-2);
    let net = Net::drawn(SHAPE, &Rng::new(5), &gpu)
        .unwrap()
        .narrowed()
        .unwrap()
        .frozen(16);
    let narrow = values(&net.forward(&images.to_device(&gpu).unwrap()).unwrap()[0]);
    println!("bf16 is off by {}", off(&narrow, &expected));
    assert!(off(&narrow, &expected) <= 1e-1);
    set_precision(Precision::F32);
}

/// More batches than it takes to record, of two sizes: losses and weights as on the CPU, and what is drawn afterwards.
#[test]
fn what_is_repeated_is_the_cpu_s_every_time() {
    let Some((gpu, _turn)) = gpu() else { return };
    let learned = |device: &Device| {
        let mut learning = Learning::drawn(SHAPE, &Rng::new(5), Loss::Dice, 1e-3, device).unwrap();
        let mut rng = Rng::new(8);
        let mut numbers = Vec::new();
        for batch in [2, 2, 2, 1, 2, 2, 1, 1, 1] {
            let images = random(&[batch, 32, 32, 1], &mut rng).to_device(device).unwrap();
            let classes: Vec<u8> = (0..batch * 1024).map(|_| rng.below(4) as u8).collect();
            let classes = Tensor::from_vec(classes, (batch, 32, 32), device).unwrap();
            for loss in learning.step(&[(images.clone(), classes.clone())], 1.0).unwrap() {
                numbers.push(loss.loss().unwrap() as f32);
            }
        }
        let net = learning.net.frozen(16);
        for _ in 0..4 {
            let images = random(&[2, 32, 32, 1], &mut rng).to_device(device).unwrap();
            let judged = Judging::begin(&net, &images, &[[32, 32], [7, 32]])
                .unwrap()
                .end()
                .unwrap();
            numbers.extend(judged.sums.iter().map(|sums| sums.margin as f32));
        }
        numbers
    };
    let (there, here) = (learned(&gpu), learned(&Device::Cpu));
    assert_eq!((there.len(), here.len()), (17, 17));
    for (there, here) in there.iter().zip(&here) {
        assert!((there - here).abs() <= 1e-3 * here.abs(), "{there} is not {here}");
    }
}

/// Uploads of three sizes, more than are computed at a time, whose memory is used again and again.
#[test]
fn what_is_uploaded_while_the_gpu_computes_arrives_whole() {
    let Some((gpu, _turn)) = gpu() else { return };
    let mut sums = Vec::new();
    for n in 0..64usize {
        let len = 1 << (14 + n % 3);
        let tensor = placed(vec![n as f32; len], len, &gpu).unwrap();
        // Something that takes a while stands before the sum.
        let square = tensor.reshape((128, len / 128)).unwrap();
        let product = square.matmul(&square.t().unwrap()).unwrap();
        sums.push((n, len, tensor.mean_all().unwrap(), product));
    }
    for (n, len, mean, product) in sums {
        assert_eq!(mean.to_scalar::<f32>().unwrap(), n as f32);
        let expected = (n * n * len / 128) as f32;
        assert_eq!(values(&product)[0], expected);
    }
}

#[test]
fn a_bench_runs_in_every_precision() {
    let Some((_, _turn)) = gpu() else { return };
    let processor = Processor::open(settings::Device::Cuda(0)).unwrap();
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
        let task = BenchTask {
            networks: Networks::one(Network::UNet),
            base_channels: vec![8],
            batch: 4,
            threads: 1,
            runs: 1,
            volume: false,
            precision,
        };
        let mut rows = 0;
        let result = crate::model::bench::bench(&task, &processor, &mut |progress| {
            rows += usize::from(matches!(progress, Progress::Timed(_)));
            ControlFlow::Continue(())
        });
        assert!(matches!(result, Ok(TaskResult::Timed(machine)) if machine.gpu.is_some()));
        assert_eq!(rows, 2);
    }
}
