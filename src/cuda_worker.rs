//! The worker that is linked with CUDA. It starts only where a driver is; `overtrace` starts everywhere, looks for this
//! program beside itself, and computes on the CPU where it cannot be had.

use std::io::{stdin, stdout};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use overtrace::records::printable;
use overtrace::settings::Device;
use overtrace::worker::serve;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The worker of overtrace that computes on NVIDIA GPUs; overtrace starts it itself.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Do the task that comes through standard input
    Worker {
        /// What computes: auto (the first GPU that can be had), cuda:0, ..
        #[arg(long)]
        device: Device,
    },
}

fn main() -> ExitCode {
    // Patient data: what this process creates is nobody else's.
    // SAFETY: umask only swaps a number of this process; no thread runs yet.
    unsafe { libc::umask(0o077) };
    let Verb::Worker { device } = Args::parse().verb;
    match serve(device, stdin(), stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", printable(&error.to_string()));
            ExitCode::from(2)
        }
    }
}
