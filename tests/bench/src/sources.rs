//! `bench sources`: how fast each route takes log lines in up to the log, beside only reading the same bytes.

mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::output;

/// How to measure.
#[derive(Args)]
pub(crate) struct SourcesArgs {
    /// Only this route.
    #[arg(long, value_enum)]
    only: Option<Route>,
    /// Megabytes of log files.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    megabytes: u64,
    /// How many files they are in.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    files: u64,
    /// Exit with 1 if a goal is missed.
    #[arg(long)]
    strict: bool,
    /// Where to keep data while measuring; the default is beside this program, on a real disk.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// A way in.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Route {
    /// Files of containers.
    Tail,
}

impl SourcesArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        output::warn_of_debug_build();
        let mut met = true;
        if self.only.is_none_or(|route| route == Route::Tail) {
            met &= tail::run(self.dir.as_deref(), self.megabytes, self.files)?;
        }
        Ok(if met || !self.strict { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
