//! What the layers need of a GPU, so that the way they use it can be tried without one.

use candle_core::Result;

/// Kinds of numbers in a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Single precision.
    F32,
    /// The upper half of it.
    Bf16,
}

impl Kind {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Kind::F32 => 4,
            Kind::Bf16 => 2,
        }
    }

    /// The kernel of this name for numbers of this kind.
    pub fn kernel(self, name: &str) -> String {
        match self {
            Kind::F32 => format!("{name}_f32"),
            Kind::Bf16 => format!("{name}_bf16"),
        }
    }
}

/// A matrix in a device's memory, row by row.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    /// Address of its first number.
    pub at: u64,
    /// Numbers from row to row.
    pub step: usize,
    /// Taken with rows and columns exchanged.
    pub transposed: bool,
}

/// `c = a b`, or `c += a b`.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Rows of `a` and `c`, columns of `b` and `c`, and columns of `a` which are rows of `b`; as they are taken.
    pub size: [usize; 3],
    /// The first factor.
    pub a: Matrix,
    /// The second.
    pub b: Matrix,
    /// Numbers of both.
    pub kind: Kind,
    /// The result, in f32, its rows one after the other.
    pub c: u64,
    /// Whether it is added to what is there.
    pub further: bool,
    /// Whether f32 is not to be rounded to TF32, whatever the precision.
    pub exact: bool,
}

impl Product {
    /// The same product for a BLAS, which takes matrices column by column: ours, row by row, are their transposes to it,
    /// and `(a b)' = b' a'`. Its size (rows, columns, terms), its first factor and its second; the columns of its result
    /// are the rows of ours, one after the other.
    pub fn column_major(&self) -> ([usize; 3], Matrix, Matrix) {
        let [m, n, k] = self.size;
        ([n, m, k], self.b, self.a)
    }
}

/// A device: memory, kernels of `kernels/`, products. Everything is done in the order it is asked for.
pub trait Gpu {
    /// Memory of its own, free for others when it is dropped and all that was asked for before is done.
    type Memory;

    /// Fresh memory of so many bytes, with whatever was left there.
    fn memory(&self, bytes: usize) -> Result<Self::Memory>;

    /// Where it begins.
    fn address(&self, memory: &Self::Memory) -> u64;

    /// Runs a kernel with its arguments, the first of which is the number of its threads.
    fn launch(&self, kernel: &str, arguments: &[u64]) -> Result<()>;

    /// Multiplies.
    fn multiply(&self, product: &Product) -> Result<()>;
}

/// What a kernel of `kernels/` is called in what is compiled of it.
pub fn symbol(kernel: &str) -> String {
    format!("overtrace_{kernel}")
}

/// Arguments of a kernel at most, as in `kernels/common.cu`.
pub const ARGUMENTS: usize = 12;
