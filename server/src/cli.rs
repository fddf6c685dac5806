//! The command line: what can be asked, and which module answers.

mod alerts;
pub(crate) mod client;
mod cluster;
mod export;
mod ingest;
mod input;
pub(crate) mod output;
mod page;
mod policy;
mod quarantine;
mod rules;
mod rules_test;
mod search;
mod serve;
mod sources;
mod token;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Receives Kubernetes security events, keeps them durably, detects, searches and alerts.
#[derive(Parser)]
#[command(name = "watchbell", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::ServeArgs),
    /// Search the stored events, newest first.
    Search(search::SearchArgs),
    /// Send audit log files to a server. They are stored and searched for matches; nobody is notified
    /// unless --notify is given.
    Ingest(ingest::IngestArgs),
    /// Check, test, try, explain and list rules. Only `backtest` and `list --server` need a server.
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// Make the API server's audit policy; needs no server.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Read alerts.
    #[command(subcommand)]
    Alerts(alerts::AlertsCommand),
    /// List what comes from whom: rates, totals, what was refused and why.
    Sources(sources::SourcesArgs),
    /// List, show and try again what could not be read.
    #[command(subcommand)]
    Quarantine(quarantine::QuarantineCommand),
    /// Make, list and revoke tokens, on the machine that holds the data directory.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Prove offline that nothing in the journal was changed, removed or reordered; exit code 1 names the
    /// first place where the proof fails.
    Verify(verify::VerifyArgs),
    /// Connect clusters.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
}

/// Where the data directory is, for commands that work on it without a server.
#[derive(clap::Args)]
pub(crate) struct DataDirArgs {
    /// The server's data directory.
    #[arg(long, env = "WATCHBELL_DATA_DIR", default_value = "./watchbell-data")]
    pub(crate) data_dir: PathBuf,
}

impl Cli {
    /// Runs the command. An error means exit code 1; wrong usage has ended with 2 before.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Serve(args) => args.run(),
            Command::Search(args) => args.run(),
            Command::Ingest(args) => args.run(),
            Command::Rules(command) => command.run(),
            Command::Policy(command) => command.run(),
            Command::Alerts(command) => command.run(),
            Command::Sources(args) => args.run(),
            Command::Quarantine(command) => command.run(),
            Command::Token(command) => command.run(),
            Command::Verify(args) => args.run(),
            Command::Cluster(command) => command.run(),
        }
    }
}
