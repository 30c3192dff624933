//! The network: what it computes, how it learns, what it draws.
mod kernels;
mod layers;
