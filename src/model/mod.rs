//! The network: what it computes, how it learns, what it draws.
mod adam;
mod kernels;
mod layers;
mod loss;
mod unet;

#[cfg(test)]
mod speed;
