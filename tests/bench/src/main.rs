//! Benchmarks of the whole program, each as ratios between things that were measured in the same run.

mod generator;
mod random;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {}
