//! Benchmarks of the whole program, each as ratios between things that were measured in the same run.

mod clock;
mod correlations;
mod generator;
mod output;
mod pipeline;
mod random;
mod rules;
mod sources;
mod startup;
mod stats;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The server's allocator, so that what it is compared with allocates alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures watchbell.
#[derive(Parser)]
#[command(name = "bench", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The whole path from POST to search and alert, beside parsing alone and tantivy alone.
    Pipeline(pipeline::PipelineArgs),
    /// How many events per second correlations count, and the memory they take beside their budget.
    Correlations(correlations::CorrelationsArgs),
    /// What evaluating an event costs with few and with many rules, beside other engines and bare reading.
    Rules(rules::RulesArgs),
    /// One of the engines that `rules` measures.
    #[command(hide = true)]
    RulesWorker(rules::WorkerArgs),
    /// How fast each route takes log lines in up to the log, beside only reading them.
    Sources(sources::SourcesArgs),
    /// How soon the server is ready on a large journal.
    Startup(startup::StartupArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Pipeline(args) => args.run(),
        Command::Correlations(args) => args.run(),
        Command::Rules(args) => args.run(),
        Command::RulesWorker(args) => args.run(),
        Command::Sources(args) => args.run(),
        Command::Startup(args) => args.run(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            output::note(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
