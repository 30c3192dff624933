//! The arithmetic of the layers on plain slices: channels last, exact gradients, as fast as the CPU allows.
//!
//! Images are `batch x height x width x channels`, channels fastest. Everything comes down to two products:
//! [`product`] gathers the inputs of each output pixel in a few contiguous runs (a 3x3 window of a padded image
//! is three of them) and multiplies them by packed weights; [`outer`] sums, over all pixels, an input times an
//! output gradient. 3x3 windows of many channels go the way of [`winograd`], through the same micro-kernels; weights that are
//! learning take those of [`few`] where pixels are few. What a network says of each pixel is judged ([`judging`]), and held
//! against what it is ([`mod@softmax`]), for many pixels side by side. All sum in an order that depends on the shapes alone, so
//! that results are the same for any number of threads. Slices in, slices out: no tensors, no autograd.

mod blocks;
mod conv;
mod dense;
mod few;
mod judging;
mod lanes;
mod multiply;
mod norm;
mod outer;
mod product;
mod resample;
mod scratch;
mod shape;
mod simd;
mod softmax;
mod sweep;
mod window;
mod winograd;

pub use conv::{channel_sums, relu_gradient};
pub use dense::DensePool;
pub use judging::Verdicts;
pub use norm::Norm;
pub use resample::{Pool, UpConv, add_gated, concat, split};
pub use scratch::unwritten;
pub use shape::{Beside, Conv};
pub use simd::in_vectors;
pub use softmax::{Slopes, loss_gradient, loss_sums, softmax};
#[cfg(any(test, feature = "cuda"))]
pub use window::Spread;
pub use window::{Reach, Window};

use blocks::Runs;
use outer::{Rows, outer};
use product::{pack, product};
use scratch::Scratch;
use simd::{Isa, Work};

/// Output pixels a micro-kernel holds in registers.
const ROWS: usize = 12;
/// Output channels of a panel of packed weights; a micro-kernel takes one panel or two.
const PANEL: usize = 16;
/// Half a panel: transforms take channels by as many.
const HALF: usize = PANEL / 2;

/// The instruction set that the kernels use on this processor.
pub fn instructions() -> &'static str {
    Isa::detect().name()
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
    + sealed::Sealed
{
    /// 0.
    const ZERO: Self;
    /// Nearest value.
    fn of(value: f64) -> Self;
    /// As f64, exactly.
    fn wide(self) -> f64;
    /// The free list of [`Scratch`].
    #[doc(hidden)]
    fn shelf() -> &'static std::sync::Mutex<Vec<Vec<Self>>>;
    /// Does `work` with the vectors of `isa`.
    #[doc(hidden)]
    fn run<W: Work<Self>>(isa: Isa, work: W);
    /// Whether there are vectors of two pieces of memory.
    #[doc(hidden)]
    fn has_twins(isa: Isa) -> bool;
    /// Does `work` with vectors of two pieces of memory, the second `apart` values further.
    #[doc(hidden)]
    fn run_twins<W: Work<Self>>(isa: Isa, apart: usize, work: W);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

macro_rules! real {
    ($t:ty, $run:path, $has_twins:expr, $run_twins:expr) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            #[inline(always)]
            fn of(value: f64) -> Self {
                value as $t
            }
            fn wide(self) -> f64 {
                f64::from(self)
            }
            fn shelf() -> &'static std::sync::Mutex<Vec<Vec<Self>>> {
                static SHELF: std::sync::Mutex<Vec<Vec<$t>>> = std::sync::Mutex::new(Vec::new());
                &SHELF
            }
            fn run<W: Work<Self>>(isa: Isa, work: W) {
                $run(isa, work);
            }
            fn has_twins(isa: Isa) -> bool {
                $has_twins(isa)
            }
            fn run_twins<W: Work<Self>>(isa: Isa, apart: usize, work: W) {
                $run_twins(isa, apart, work);
            }
        }
    };
}
real!(f32, simd::run_f32, simd::has_twins, simd::run_twins);
real!(f64, simd::run_f64, |_| false, simd::no_twins);

/// Small whole numbers: every order of summing gives the same sum.
#[cfg(test)]
fn small_numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 31 % 15) as f32 - 7.0).collect()
}
