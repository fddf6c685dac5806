//! `bench pipeline`: the whole path from POST to search and alert, beside parsing alone and tantivy alone,
//! on the same events in the same run.

mod baseline;
pub(crate) mod client;
mod load;
mod probe;
pub(crate) mod process;
mod report;
pub(crate) mod server;
mod sink;
mod steady;
mod sync;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::load::Load;
use self::process::{MemoryWatch, cpu_seconds};
use self::report::Report;
use self::server::{Progress, Server};
use self::sink::Sink;
use crate::generator::Generator;
use crate::output;

/// How to measure.
#[derive(Args)]
pub(crate) struct PipelineArgs {
    /// How long to measure at the steady rate, and then at half of it; below 60 it is only a trial.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    seconds: u64,
    /// Send these events, one per line, instead of generated ones; ids and times are made new.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Print only the line of JSON.
    #[arg(long)]
    json: bool,
    /// Equal seeds send equal loads.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Exit with 1 if a goal is missed.
    #[arg(long)]
    strict: bool,
    /// Where to keep data while measuring; the default is beside this program, on a real disk.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The steady rate is found within this time.
const WARM_UP: Duration = Duration::from_secs(45);
/// The index may take this long to catch up once nothing is sent any more.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(120);

/// A server is quiet if it takes less than this share of one processor for so long.
const QUIET_SHARE: f64 = 0.1;
const QUIET_FOR: Duration = Duration::from_secs(1);

impl PipelineArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        output::warn_of_debug_build();
        let report = self.measure()?;
        output::report(|| report.table(), &report.json()?, self.json)?;
        let missed = report.goals().iter().any(|goal| !goal.met);
        Ok(if missed && self.strict { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Baselines, the whole path, and when its steady rate is known the baselines again, because machines drift.
    fn measure(&self) -> Result<Report> {
        let binary = server::binary()?;
        let dir = self.working_dir()?;
        output::note("making the load");
        let mut generator = Generator::new(self.seed, self.events.as_deref())?;
        let mut report = Report {
            seed: self.seed,
            cores: std::thread::available_parallelism()?.get(),
            event_bytes_mean: generator.mean_event_bytes().round(),
            ..Report::default()
        };
        report.add_baselines(0, baselines(self.seed, self.window(), &mut generator, dir.path())?);
        // The server gets other events than the baselines, and none twice.
        generator.restart(self.seed.wrapping_add(1));
        let generator = Arc::new(Mutex::new(generator));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.whole_path(&binary, dir.path(), &generator, &mut report))?;
        output::note("measuring the disk");
        report.fdatasync = sync::fdatasync(dir.path(), report.frame_bytes)?;
        Ok(report)
    }

    fn working_dir(&self) -> Result<tempfile::TempDir> {
        let own = std::env::current_exe()?;
        let parent = self.dir.as_deref().or(own.parent()).context("this program lies in no directory")?;
        tempfile::Builder::new()
            .prefix("bench-pipeline-")
            .tempdir_in(parent)
            .with_context(|| format!("failed to make a directory in {}", parent.display()))
    }

    async fn whole_path(
        &self,
        binary: &Path,
        dir: &Path,
        generator: &Arc<Mutex<Generator>>,
        report: &mut Report,
    ) -> Result<()> {
        let sink = Sink::start().await?;
        let server = Server::start(binary, dir, sink.address).await?;
        let measured = self.through(&server, &sink, generator, dir, report).await;
        measured.map_err(|error| error.context(server::log_tail(dir)))?;
        server.stop().await
    }

    async fn through(
        &self,
        server: &Server,
        sink: &Sink,
        generator: &Arc<Mutex<Generator>>,
        dir: &Path,
        report: &mut Report,
    ) -> Result<()> {
        let memory = MemoryWatch::start(server.process());
        let window = self.window();
        output::note(&format!("looking for the steady rate for {WARM_UP:?}, then measuring for {window:?}"));
        let (steady, mut total) = steady::run(server, generator, WARM_UP, window).await?;
        report.whole_path = steady;
        catch_up(server).await?;
        // A batch is a frame of its own unless others come in the same moment.
        let frame_bytes = server.disk_bytes("journal") / total.batches.max(1);
        report.frame_bytes = usize::try_from(frame_bytes).unwrap_or(usize::MAX);
        // Measured beside a busy server they would flatter the whole path.
        let again = match quiet(server).await? {
            true => self.baselines_again(generator, dir).await?,
            false => report.first_baselines(),
        };
        report.add_baselines(1, again);

        report.half_load_per_second = report.whole_path.indexed_per_second / 2.0;
        output::note(&format!(
            "{:.0} events/s, half the steady rate, for {window:?}",
            report.half_load_per_second
        ));
        let mut load = Load::start(server, Arc::clone(generator), report.half_load_per_second, None).await?;
        let probes = probe::run(server, sink, window).await?;
        load.check().await?;
        let tally = load.stop().await?;
        total.add(&tally);
        catch_up(server).await?;

        report.half_load_batch_answer = tally.times.quantiles();
        report.half_load_probe_answer = probes.answered;
        report.post_to_searchable = probes.searchable;
        report.post_to_alert = probes.alerted;
        report.lost_probes = probes.lost;
        report.alert_messages = sink.messages();
        report.peak_anonymous_bytes = memory.peak_bytes();
        report.raw_bytes = total.event_bytes;
        report.journal_bytes = server.disk_bytes("journal");
        report.index_bytes = server.disk_bytes("index");
        report.disk_bytes = server.disk_bytes("");
        Ok(())
    }

    /// The baselines, while the sink and the watch over the server's memory go on.
    async fn baselines_again(&self, generator: &Arc<Mutex<Generator>>, dir: &Path) -> Result<[f64; 2]> {
        let (seed, window) = (self.seed, self.window());
        let (generator, dir) = (Arc::clone(generator), dir.to_owned());
        let measuring = tokio::task::spawn_blocking(move || {
            // the disk gets what the whole path has written
            rustix::fs::sync();
            let mut generator = generator.lock().unwrap_or_else(PoisonError::into_inner);
            let measured = baselines(seed, window, &mut generator, &dir);
            generator.restart(seed.wrapping_add(2));
            measured
        });
        measuring.await?
    }

    fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Events per second that are parsed alone, and that tantivy alone indexes.
fn baselines(seed: u64, window: Duration, generator: &mut Generator, dir: &Path) -> Result<[f64; 2]> {
    let (parse, index) = (window / 12, window / 2);
    output::note(&format!("parsing alone for {parse:?}, then tantivy alone for {index:?}"));
    generator.restart(seed);
    let parsed = baseline::value_parse(generator, parse)?.round();
    generator.restart(seed);
    Ok([parsed, baseline::bare_tantivy(generator, dir, index)?.round()])
}

/// Waits until the server has done what goes on behind the last commit, such as merges. False if that takes too long.
async fn quiet(server: &Server) -> Result<bool> {
    let deadline = Instant::now() + CATCH_UP_DEADLINE;
    loop {
        let used = || cpu_seconds(server.process()).context("the server has ended");
        let before = used()?;
        tokio::time::sleep(QUIET_FOR).await;
        if used()? - before < QUIET_SHARE * QUIET_FOR.as_secs_f64() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            output::note("the server is still busy: only the first baseline counts");
            return Ok(false);
        }
    }
}

/// Waits until everything in the log can be searched.
async fn catch_up(server: &Server) -> Result<Progress> {
    let mut status = server.connect().await?;
    let deadline = Instant::now() + CATCH_UP_DEADLINE;
    loop {
        let progress = Progress::read(&mut status).await?;
        if progress.index_lag() == 0 && progress.detect_lag() == 0 {
            return Ok(progress);
        }
        ensure!(
            Instant::now() < deadline,
            "the server did not catch up within {CATCH_UP_DEADLINE:?}: {progress:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
