//! The watchbell binary. This crate alone reads the environment, configuration files, signals and the wall
//! clock, and `pipeline` is the only place where the stages meet.

mod cli;
mod clock;
mod config;
mod demo;
mod feeds;
mod files;
mod http;
mod inputs;
mod pipeline;
mod quota;
mod roles;
mod rule_files;
mod self_audit;
mod sources;
mod telemetry;
mod tls;
mod tokens;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Everything that speaks TLS here uses this one implementation.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "watchbell: {error:#}");
            ExitCode::FAILURE
        }
    }
}
