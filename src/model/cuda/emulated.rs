//! The GPU's kernels compiled for the CPU, and every layer made of them held against the CPU's own.
//!
//! What is not tried here: the driver, NVRTC, cuBLAS and cuDNN themselves.

mod stacks;
mod wide;

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use candle_core::{Device, Result, Tensor, bail};
use libloading::{Library, Symbol};

use super::gpu::{ARGUMENTS, Gpu, Kind, Matrix, Product, symbol};
use super::ops::{self, Part};
use crate::imaging::Rng;
use crate::model::adam::Adam;
use crate::model::judge::{Judged, judge, tile_bytes};
use crate::model::kernels::{Beside, Conv, Pool, UpConv, add_gated, channel_sums, concat, split};
use crate::model::loss::{Answer, probabilities};
use crate::settings::Loss;

/// What the compiler of GPUs knows by itself, for one of CPUs.
const PRELUDE: &str = r#"
#include <math.h>
#define __global__
#define __device__ static inline
struct Index { unsigned x; };
static thread_local Index blockIdx, blockDim, threadIdx;
"#;
const EPILOGUE: &str = r#"
extern "C" void every_thread(void (*kernel)(Words), unsigned blocks, unsigned threads, Words a) {
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) kernel(a);
}
"#;

#[repr(C)]
#[derive(Clone, Copy)]
struct Words([u64; ARGUMENTS]);
type Kernel = unsafe extern "C" fn(Words);

/// A GPU that is the CPU.
struct Emulated {
    kernels: &'static Library,
    /// Whether products round f32 to TF32 where they may.
    rounds: bool,
}

impl Emulated {
    /// `None`, and a notice, where there is no C++ compiler.
    fn new() -> Option<Emulated> {
        static LIBRARY: OnceLock<Option<(Library, tempfile::TempDir)>> = OnceLock::new();
        let library = LIBRARY.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("kernels.so");
            let child = Command::new("c++")
                .args(["-O1", "-ffp-contract=off", "-shared", "-fPIC", "-x", "c++", "-o"])
                .arg(&file)
                .arg("-")
                .stdin(Stdio::piped())
                .spawn();
            let Ok(mut child) = child else {
                println!("skipped: there is no C++ compiler to try the GPU's kernels with");
                return None;
            };
            let source = [PRELUDE, super::KERNELS, EPILOGUE].concat();
            child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success(), "the kernels do not compile");
            // SAFETY: nothing runs when the library is loaded.
            Some((unsafe { Library::new(&file) }.unwrap(), folder))
        });
        library.as_ref().map(|(kernels, _)| Emulated {
            kernels,
            rounds: false,
        })
    }
}

/// Memory that begins where a GPU's might.
#[repr(align(64))]
#[derive(Clone)]
struct Line {
    _words: [u64; 8],
}

impl Gpu for Emulated {
    type Memory = Vec<Line>;

    fn memory(&self, bytes: usize) -> Result<Vec<Line>> {
        // Not zeros: nobody may rely on them.
        let line = Line {
            _words: [0x7fc0_7fc0_7fc0_7fc0; 8],
        };
        Ok(vec![line; bytes.div_ceil(64)])
    }

    fn address(&self, memory: &Vec<Line>) -> u64 {
        memory.as_ptr() as u64
    }

    fn launch(&self, kernel: &str, arguments: &[u64]) -> Result<()> {
        let mut words = Words([0; ARGUMENTS]);
        words.0[..arguments.len()].copy_from_slice(arguments);
        // SAFETY: the signatures are those of the source above; the addresses are those of the tests' own buffers.
        unsafe {
            let Ok(kernel) = self.kernels.get::<Kernel>(symbol(kernel).as_bytes()) else {
                bail!("there is no kernel {kernel}")
            };
            let run: Symbol<'_, unsafe extern "C" fn(Kernel, u32, u32, Words)> =
                self.kernels.get(b"every_thread").unwrap();
            run(*kernel, arguments[0].div_ceil(256) as u32, 256, words);
        }
        Ok(())
    }

    /// As a BLAS does it: element (i, j) of a matrix lies at `i + j * step`.
    fn multiply(&self, product: &Product) -> Result<()> {
        let ([m, n, k], first, second) = product.column_major();
        let read = |matrix: Matrix, row: usize, column: usize| {
            let (row, column) = if matrix.transposed {
                (column, row)
            } else {
                (row, column)
            };
            let at = row + column * matrix.step;
            // SAFETY: the addresses are those of the tests' own buffers, which hold such matrices.
            unsafe {
                match product.kind {
                    Kind::F32 if self.rounds && !product.exact => {
                        f32::from_bits(*(matrix.at as *const u32).add(at) & 0xffff_e000)
                    }
                    Kind::F32 => *(matrix.at as *const f32).add(at),
                    Kind::Bf16 => wide(*(matrix.at as *const u16).add(at)),
                }
            }
        };
        for column in 0..n {
            for row in 0..m {
                let sum: f64 = (0..k)
                    .map(|i| f64::from(read(first, row, i)) * f64::from(read(second, i, column)))
                    .sum();
                // SAFETY: as above.
                unsafe {
                    let c = (product.c as *mut f32).add(row + column * m);
                    *c = if product.further { *c } else { 0.0 } + sum as f32;
                }
            }
        }
        Ok(())
    }
}

fn wide(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// To the nearest.
fn narrow(values: &[f32]) -> Vec<u16> {
    let round = |bits: u32| ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    values.iter().map(|v| round(v.to_bits())).collect()
}

fn numbers(n: usize, rng: &mut Rng) -> Vec<f32> {
    (0..n).map(|_| rng.normal() as f32).collect()
}

fn at<T>(values: &[T]) -> u64 {
    values.as_ptr() as u64
}

/// Fails where two results differ by more than `tolerance` of the largest value.
fn same(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() <= tolerance * largest,
            "{what}, value {i}: {got} is not {expected}"
        );
    }
}

/// Runs `fill` on memory for `n` results.
fn result(n: usize, fill: impl FnOnce(u64)) -> Vec<f32> {
    let mut out = vec![f32::NAN; n];
    fill(out.as_mut_ptr() as u64);
    out
}

fn convs() -> impl Iterator<Item = Conv> {
    [(2, 6, 10, 3, 5, 3), (1, 4, 4, 16, 8, 3), (2, 3, 5, 7, 4, 1)]
        .into_iter()
        .map(|(batch, height, width, inputs, outputs, kernel)| Conv {
            batch,
            height,
            width,
            inputs,
            outputs,
            kernel,
        })
}

/// Every convolution of images alone, and of images beside one another.
#[test]
fn convolutions_are_the_cpu_s() {
    let Some(gpu) = Emulated::new() else { return };
    let mut rng = Rng::new(1);
    for (conv, apart) in convs().flat_map(|conv| [0, 1, 2].map(|apart| (conv, apart))) {
        let channels = if apart == 0 {
            vec![conv.inputs]
        } else {
            vec![apart, conv.inputs - apart]
        };
        let parts: Vec<Part> = Part::each(&conv, channels.iter().copied()).collect();
        let x = numbers(conv.pixels() * conv.inputs, &mut rng);
        let w = numbers(conv.weights(), &mut rng);
        let b = numbers(conv.outputs, &mut rng);
        let dy = numbers(conv.pixels() * conv.outputs, &mut rng);
        let taken = |x: &[f32], part: &Part| {
            let mut some = vec![0.0; conv.pixels() * part.conv.inputs];
            split(x, conv.inputs, part.from, &mut some);
            some
        };
        let images: Vec<Vec<f32>> = parts.iter().map(|part| taken(&x, part)).collect();
        let small: Vec<Vec<u16>> = images.iter().map(|x| narrow(x)).collect();
        let beside = |at: Vec<u64>| at.into_iter().zip(channels.clone()).collect::<Vec<_>>();
        for relu in [false, true] {
            let mut expected = dy.clone();
            let whole = Beside::one(&x[..], conv.inputs);
            conv.forward(whole, &conv.prepare(&w), &b, relu, &mut expected);
            let given = beside(images.iter().map(|x| at(x)).collect());
            let y = result(dy.len(), |out| {
                ops::conv(&gpu, Kind::F32, &conv, &given, (at(&w), at(&b)), relu, out).unwrap();
            });
            same("forward", &y, &expected, 1e-5);
            let given = beside(small.iter().map(|x| at(x)).collect());
            let w = narrow(&w);
            let y = if conv.kernel == 1 {
                result(dy.len(), |out| {
                    ops::conv(&gpu, Kind::Bf16, &conv, &given, (at(&w), at(&b)), relu, out).unwrap();
                })
            } else {
                let mut out = vec![0u16; dy.len()];
                let to = out.as_mut_ptr() as u64;
                ops::conv(&gpu, Kind::Bf16, &conv, &given, (at(&w), at(&b)), relu, to).unwrap();
                out.into_iter().map(wide).collect()
            };
            same("forward in bf16", &y, &expected, 2e-2);
        }
        let mut expected = w.clone();
        conv.weight_gradient(Beside::one(&x, conv.inputs), &dy, &mut expected);
        let dw = result(w.len(), |out| {
            for (part, x) in parts.iter().zip(&images) {
                ops::conv_weight_gradient(&gpu, part, (at(x), at(&dy)), out).unwrap();
            }
        });
        same("gradient by the weights", &dw, &expected, 1e-5);
        for is_gated in [false, true] {
            let gate = if is_gated { &x[..] } else { &[] };
            let mut expected = x.clone();
            conv.input_gradient(&dy, &w, gate, Beside::one(&mut expected, conv.inputs));
            for (part, images) in parts.iter().zip(&images) {
                let gate = if is_gated { at(images) } else { 0 };
                let dx = result(images.len(), |out| {
                    ops::conv_input_gradient(&gpu, part, (at(&dy), at(&w)), gate, out).unwrap();
                });
                same("gradient by the input", &dx, &taken(&expected, part), 1e-5);
            }
        }
        let mut expected = b.clone();
        channel_sums(&dy, &mut expected);
        let rounding = Emulated { rounds: true, ..gpu };
        let db = result(b.len(), |out| {
            ops::channel_sums(&rounding, (conv.pixels(), conv.outputs), at(&dy), out).unwrap();
        });
        same("gradient by the bias", &db, &expected, 1e-5);
    }
}

#[test]
fn convolutions_of_few_inputs_are_the_cpu_s() {
    let Some(gpu) = Emulated::new() else { return };
    let mut rng = Rng::new(9);
    for (batch, height, width, inputs, outputs) in [(2, 5, 8, 1, 8), (1, 1, 4, 3, 4), (1, 6, 12, 4, 12)] {
        let conv = Conv {
            batch,
            height,
            width,
            inputs,
            outputs,
            kernel: 3,
        };
        let x = numbers(conv.pixels() * inputs, &mut rng);
        let w = numbers(conv.weights(), &mut rng);
        let b = numbers(outputs, &mut rng);
        for relu in [false, true] {
            let mut expected = vec![0.0; conv.pixels() * outputs];
            conv.forward(
                Beside::one(&x, conv.inputs),
                &conv.prepare(&w),
                &b,
                relu,
                &mut expected,
            );
            let y = result(expected.len(), |out| {
                let images = [(at(&x), inputs)];
                assert!(ops::has_few_inputs(&conv, at(&w), out));
                ops::conv(&gpu, Kind::F32, &conv, &images, (at(&w), at(&b)), relu, out).unwrap();
            });
            same("in f32", &y, &expected, 1e-5);
            let mut out = vec![0u16; expected.len()];
            let (x, w) = (narrow(&x), narrow(&w));
            let (images, to) = ([(at(&x), inputs)], out.as_mut_ptr() as u64);
            ops::conv(&gpu, Kind::Bf16, &conv, &images, (at(&w), at(&b)), relu, to).unwrap();
            let y: Vec<f32> = out.into_iter().map(wide).collect();
            same("in bf16", &y, &expected, 2e-2);
        }
        let mut halves = vec![0u16; w.len()];
        ops::narrowed(&gpu, w.len(), at(&w), halves.as_mut_ptr() as u64).unwrap();
        assert_eq!(halves, narrow(&w));
    }
}

#[test]
fn weights_go_to_cudnn_s_layout_and_back() {
    let Some(gpu) = Emulated::new() else { return };
    for conv in convs().filter(|conv| conv.kernel == 3) {
        let w = numbers(conv.weights(), &mut Rng::new(2));
        let mut back = vec![0.0; w.len()];
        // Eights of inputs are read and written in packs.
        let split = if conv.inputs == 16 {
            [8, 8]
        } else {
            [2, conv.inputs - 2]
        };
        for part in Part::each(&conv, split) {
            let (taken, from) = (part.conv.inputs, part.from);
            let first = result(part.conv.weights(), |out| {
                ops::outputs_first(&gpu, Kind::F32, &part, at(&w), out).unwrap()
            });
            let mut small = vec![0u16; first.len()];
            let (narrow_w, to) = (narrow(&w), small.as_mut_ptr() as u64);
            ops::outputs_first(&gpu, Kind::Bf16, &part, at(&narrow_w), to).unwrap();
            assert_eq!(small, narrow(&first));
            for (tap, k, n) in [(0, 0, 0), (4, taken / 2, 3), (8, taken - 1, 4)] {
                let ours = w[(tap * conv.inputs + from + k) * conv.outputs + n];
                assert_eq!(first[(n * 9 + tap) * taken + k], ours);
            }
            ops::outputs_last(&gpu, &part, at(&first), back.as_mut_ptr() as u64).unwrap();
        }
        assert_eq!(back, w);
    }
}

#[test]
fn up_convolutions_are_the_cpu_s() {
    let Some(gpu) = Emulated::new() else { return };
    let mut rng = Rng::new(3);
    let up = UpConv {
        batch: 2,
        height: 3,
        width: 5,
        inputs: 6,
        outputs: 4,
    };
    let x = numbers(30 * 6, &mut rng);
    let w = numbers(up.weights(), &mut rng);
    let b = numbers(4, &mut rng);
    let dy = numbers(4 * 30 * 4, &mut rng);
    let mut expected = dy.clone();
    up.forward(&x, &up.prepare(&w), &b, &mut expected);
    let y = result(dy.len(), |out| {
        ops::up_conv(&gpu, Kind::F32, &up, (at(&x), at(&w), at(&b)), out).unwrap();
    });
    same("forward", &y, &expected, 1e-5);
    let mut half = vec![0u16; dy.len()];
    let (small_x, small_w, to) = (narrow(&x), narrow(&w), half.as_mut_ptr() as u64);
    ops::up_conv(&gpu, Kind::Bf16, &up, (at(&small_x), at(&small_w), at(&b)), to).unwrap();
    let half: Vec<f32> = half.into_iter().map(wide).collect();
    same("forward in bf16", &half, &expected, 2e-2);
    let beside = result(dy.len(), |out| ops::unshuffle(&gpu, &up, at(&dy), out).unwrap());
    for gate in [&[], &x[..]] {
        let mut expected = x.clone();
        up.input_gradient(&dy, &w, gate, &mut expected);
        let address = if gate.is_empty() { 0 } else { at(gate) };
        let dx = result(x.len(), |out| {
            ops::up_conv_input_gradient(&gpu, &up, (at(&beside), at(&w)), address, out).unwrap();
        });
        same("gradient by the input", &dx, &expected, 1e-5);
    }
    let mut expected = w.clone();
    up.weight_gradient(&x, &dy, &mut expected);
    let dw = result(w.len(), |out| {
        ops::up_conv_weight_gradient(&gpu, &up, (at(&x), at(&beside)), out).unwrap();
    });
    same("gradient by the weights", &dw, &expected, 1e-5);
}

#[test]
fn pooling_concatenation_and_sums_are_the_cpu_s_to_the_bit() {
    let Some(gpu) = Emulated::new() else { return };
    let mut rng = Rng::new(4);
    let pool = Pool {
        batch: 2,
        height: 4,
        width: 6,
        channels: 3,
    };
    // Few values, so that windows have several largest.
    let x: Vec<f32> = (0..2 * 4 * 6 * 3).map(|_| rng.below(3) as f32).collect();
    let dy = numbers(x.len() / 4, &mut rng);
    let (mut y, mut dx) = (dy.clone(), x.clone());
    pool.forward(&x, &mut y);
    pool.gradient(&x, &dy, &mut dx);
    let got = |n, fill: &dyn Fn(u64) -> Result<()>| result(n, |out| fill(out).unwrap());
    assert_eq!(
        got(y.len(), &|out| ops::max_pool(&gpu, Kind::F32, &pool, at(&x), out)),
        y
    );
    assert_eq!(
        got(x.len(), &|out| ops::max_pool_gradient(
            &gpu,
            &pool,
            (at(&x), at(&dy)),
            false,
            out
        )),
        dx
    );
    let (small, mut half) = (narrow(&x), vec![0u16; y.len()]);
    let to = half.as_mut_ptr() as u64;
    ops::max_pool(&gpu, Kind::Bf16, &pool, at(&small), to).unwrap();
    assert_eq!(half, narrow(&y), "such small numbers are exact");

    let (a, b) = (numbers(7 * 2, &mut rng), numbers(7 * 3, &mut rng));
    let mut both = vec![0.0; 7 * 5];
    concat(&a, &b, (2, 3), &mut both);
    let concatenated = got(both.len(), &|out| {
        ops::concat(&gpu, Kind::F32, 7, (at(&a), 2), (at(&b), 3), out)
    });
    assert_eq!(concatenated, both);
    let mut rest = b.clone();
    split(&both, 5, 2, &mut rest);
    assert_eq!(
        got(b.len(), &|out| ops::split(&gpu, (7, 5), at(&both), (2, 3), out)),
        rest
    );

    let gate = numbers(b.len(), &mut rng);
    let (mut expected, mut sum) = (rest.clone(), rest.clone());
    add_gated(&mut expected, &b, &gate);
    ops::add_gated(&gpu, b.len(), sum.as_mut_ptr() as u64, at(&b), at(&gate)).unwrap();
    assert_eq!(sum, expected);
}

#[test]
fn the_loss_and_its_gradient_are_the_cpu_s() {
    let Some(gpu) = Emulated::new() else { return };
    let mut rng = Rng::new(5);
    // More than are added at a time, twice over.
    let (pixels, m) = (60 * 300, 3);
    let logits = numbers(pixels * m, &mut rng);
    let classes: Vec<u8> = (0..pixels).map(|_| rng.below(m) as u8).collect();
    let tensor = Tensor::from_slice(&logits, (1, 60, 300, m), &Device::Cpu).unwrap();
    let truth = Tensor::from_slice(&classes, (1, 60, 300), &Device::Cpu).unwrap();
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let p = result(logits.len(), |out| {
        ops::softmax(&gpu, (pixels, m), at(&logits), out).unwrap();
    });
    same("softmax", &p, &values(&probabilities(&tensor).unwrap()), 1e-6);
    let mut sums = vec![f64::NAN; 2 * m + 2];
    let to = sums.as_mut_ptr() as u64;
    ops::loss_sums(&gpu, (pixels, m), (at(&p), at(&classes)), to).unwrap();
    let expected = Answer::new(Loss::Dice, &tensor, &truth).unwrap().into_sums();
    for (got, expected) in sums.iter().zip(expected.to_vec1::<f64>().unwrap()) {
        assert!(
            (got - expected).abs() <= 1e-5 * expected,
            "{got} is not {expected}"
        );
    }
    for kind in [Loss::Dice, Loss::Mse, Loss::DiceCe] {
        let answer = Answer::new(kind, &tensor, &truth).unwrap();
        let gradient = result(logits.len(), |out| {
            let given = (at(&p), at(&classes), at(&sums));
            ops::loss_gradient(&gpu, kind, (pixels, m), given, out).unwrap();
        });
        same("gradient", &gradient, &values(&answer.gradient().unwrap()), 1e-5);
    }
}

#[test]
fn a_step_of_adam_is_the_cpu_s() {
    let Some(gpu) = Emulated::new() else { return };
    let mut rng = Rng::new(6);
    let n = 700;
    let (weight, slopes) = (numbers(n, &mut rng), numbers(n, &mut rng));
    let tensor = |values: &[f32]| Tensor::from_slice(values, n, &Device::Cpu).unwrap();
    let mut adam = Adam::new(vec![("w".into(), tensor(&weight))], 1e-3).unwrap();
    let grads = HashMap::from([("w".into(), tensor(&slopes))]);
    let mut learnt = [weight, vec![0f32; 2 * n]].concat();
    for step in 1..=3 {
        adam.begin().unwrap();
        adam.end(&grads).unwrap();
        let left = |beta: f64| 1.0 - beta.powi(step);
        let size = [(1e-3 * left(0.999).sqrt() / left(0.9)) as f32];
        let by = [at(&slopes), at(&size)];
        ops::adam(&gpu, n, learnt.as_mut_ptr() as u64, by, [0.9, 0.999], 1e-7).unwrap();
    }
    let (weight, moments) = adam.learners[0].values().unwrap();
    same("weights", &learnt[..n], &weight, 1e-6);
    same("moments", &learnt[n..], &moments, 1e-6);
}

#[test]
fn judgements_are_the_cpu_s() {
    let Some(gpu) = Emulated::new() else { return };
    // Eleven are more than the eight that are summed at a time.
    for m in [4, 11] {
        let shape = [2, 4, 6, m];
        let mut logits = numbers(shape.iter().product(), &mut Rng::new(7));
        logits[1] = f32::NEG_INFINITY;
        let sizes = [[4, 6], [3, 2]];
        let tensor = Tensor::from_slice(&logits, &shape[..], &Device::Cpu).unwrap();
        let expected = judge(&[tensor], &sizes).unwrap();
        let words: Vec<u32> = sizes.as_flattened().iter().map(|&n| n as u32).collect();
        // Whole words, so that the sums lie on multiples of 8.
        let mut out = vec![0u64; (2 * tile_bytes(m) + 2 * 48) / 8];
        let to = out.as_mut_ptr() as u64;
        ops::judge(&gpu, shape, (at(&logits), at(&words)), to).unwrap();
        let bytes: Vec<u8> = out.iter().flat_map(|word| word.to_le_bytes()).collect();
        let judged = Judged::of_bytes(&bytes, [2, m]);
        assert_eq!(
            (judged.classes, judged.margins),
            (expected.classes, expected.margins)
        );
        let entropies = judged.class_entropies.concat();
        assert_eq!(entropies.len(), 2 * m);
        for (got, expected) in entropies.iter().zip(expected.class_entropies.concat()) {
            assert!((got - expected).abs() < 1e-9, "{entropies:?}");
        }
        for (got, expected) in judged.sums.iter().zip(expected.sums) {
            assert_eq!(got.pixels, expected.pixels);
            assert_eq!(got.foreground_pixels, expected.foreground_pixels);
            let pairs = [
                (got.margin, expected.margin),
                (got.entropy, expected.entropy),
                (got.foreground_margin, expected.foreground_margin),
                (got.foreground_entropy, expected.foreground_entropy),
            ];
            assert!(
                pairs.iter().all(|(got, expected)| (got - expected).abs() < 1e-9),
                "{pairs:?}"
            );
        }
    }
}
