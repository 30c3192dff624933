//! The arithmetic of the layers on plain slices: channels last, exact gradients, as fast as the CPU allows.
//!
//! Images are `batch x height x width x channels`, channels fastest. Everything comes down to two products:
//! [`product`] gathers the inputs of each output pixel in a few contiguous runs (a 3x3 window of a padded image
//! is three of them) and multiplies them by packed weights; [`outer`] sums, over all pixels, an input times an
//! output gradient. 3x3 windows of many channels go the way of [`winograd`], through the same micro-kernels. All sum in
//! an order that depends on the shapes alone, so that results are the same for any number of threads. Slices in, slices
//! out: no tensors, no autograd.

mod conv;
mod lanes;
mod product;
mod resample;
mod scratch;
mod winograd;

pub use conv::{Conv, channel_sums, relu_gradient};
pub use product::{Runs, outer, pack, product};
pub use resample::{Pool, UpConv, add, concat, split};
pub use scratch::Scratch;

use lanes::{Columns, Isa, Sweep};
use winograd::Lines;

/// Output pixels a micro-kernel holds in registers.
const ROWS: usize = 12;
/// Output channels of a panel of packed weights; a micro-kernel takes one panel or two.
const PANEL: usize = 16;
/// Sums of a micro-kernel: `[pixel][panel][channel]`.
type Sums<T> = [[[T; PANEL]; 2]; ROWS];

/// The instruction set that the kernels use on this processor.
pub fn instructions() -> &'static str {
    match Isa::detect() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => "AVX-512",
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => "AVX2 + FMA",
        Isa::Portable => "portable",
    }
}

/// The numbers the kernels compute with: `f32` for use, `f64` to check gradients with.
pub trait Real:
    Copy
    + Default
    + Send
    + Sync
    + PartialOrd
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::AddAssign
    + 'static
    + Lines
    + sealed::Sealed
{
    /// 0.
    const ZERO: Self;
    /// Nearest value.
    fn of(value: f64) -> Self;
    /// As f64, exactly.
    fn wide(self) -> f64;
    /// e to the power of it.
    fn exp(self) -> Self;
    /// The free list of [`Scratch`].
    #[doc(hidden)]
    fn shelf() -> &'static std::sync::Mutex<Vec<Vec<Self>>>;
    /// `sums[i][p] += sum over k of x[at[i] + k] * panels[p][k]`.
    #[doc(hidden)]
    fn gather(
        isa: Isa,
        x: &[Self],
        at: &[usize; ROWS],
        runs: Runs,
        panels: Columns<'_, Self>,
        sums: &mut Sums<Self>,
    );
    /// `out[i * step + p * 16 ..] = sum over k of x[i][k] * panels[p][k]` for [`ROWS`] items.
    #[doc(hidden)]
    fn multiply(isa: Isa, x: &[Self], panels: Columns<'_, Self>, out: &mut [Self], step: usize);
    /// `sums[i][p] += sum over pixels of x[i] * y[p]`.
    #[doc(hidden)]
    fn sweep(isa: Isa, sweep: &Sweep<'_, Self>, sums: &mut Sums<Self>);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

macro_rules! real {
    ($t:ty, $gather:path, $multiply:path, $sweep:path) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            fn of(value: f64) -> Self {
                value as $t
            }
            fn wide(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn shelf() -> &'static std::sync::Mutex<Vec<Vec<Self>>> {
                static SHELF: std::sync::Mutex<Vec<Vec<$t>>> = std::sync::Mutex::new(Vec::new());
                &SHELF
            }
            fn gather(
                isa: Isa,
                x: &[Self],
                at: &[usize; ROWS],
                runs: Runs,
                panels: Columns<'_, Self>,
                sums: &mut Sums<Self>,
            ) {
                $gather(isa, x, at, runs, panels, sums)
            }
            fn multiply(isa: Isa, x: &[Self], panels: Columns<'_, Self>, out: &mut [Self], step: usize) {
                $multiply(isa, x, panels, out, step)
            }
            fn sweep(isa: Isa, sweep: &Sweep<'_, Self>, sums: &mut Sums<Self>) {
                $sweep(isa, sweep, sums)
            }
        }
    };
}
real!(f32, lanes::gather_f32, lanes::multiply_f32, lanes::sweep_f32);
real!(f64, lanes::gather_f64, lanes::multiply_f64, lanes::sweep_f64);
