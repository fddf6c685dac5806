//! Files of containers, all in this process: up to the log (read, join, decode, identify) with nothing beside it, as the
//! other core would take a share of this one's caches and memory, then into the journal (deduplicate, append, sync).

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use watchbell_ingest::intake::{Intake, IntakeConfig, OlderEvent};
use watchbell_ingest::log::{Journal, JournalConfig, Log};
use watchbell_ingest::redact::Redactor;
use watchbell_ingest::tail::{PathPattern, Tail, TailConfig, TailSource};

use super::lines::line;
use crate::pipeline::process::cpu_seconds;
use crate::random::Random;
use crate::stats::quantile;
use crate::{clock, output};

const MB: f64 = 1e6;
/// How often files are read up to the log; the median counts.
const PASSES: usize = 5;

/// What was measured.
pub(super) struct Measured {
    bytes: f64,
    lines: u64,
    /// Only counting lines.
    counting_seconds: f64,
    /// Processor time of reading, joining, decoding, redaction and identity, and of giving the memory back.
    reading_cpu_seconds: f64,
    /// Of all of it, until the lines are durable.
    seconds: f64,
    cpu_seconds: f64,
}

impl Measured {
    /// Megabytes per second of one core, without the log.
    pub(super) fn up_to_the_log(&self) -> f64 {
        self.bytes / MB / self.reading_cpu_seconds
    }

    pub(super) fn text(&self) -> String {
        let [counting, all, core] =
            [self.counting_seconds, self.seconds, self.cpu_seconds].map(|seconds| self.bytes / MB / seconds);
        format!(
            "\nfiles up to the log: {:.0} MB/s of one core; into the journal: {all:.0} MB/s ({:.0} lines/s), {core:.0} MB/s of one core; \
             only counting lines: {counting:.0} MB/s",
            self.up_to_the_log(),
            self.lines as f64 / self.seconds,
        )
    }

    pub(super) fn json(&self) -> Value {
        let rate = |seconds: f64| (self.bytes / MB / seconds).round();
        json!({ "lines": self.lines, "mb_per_core_second_up_to_the_log": rate(self.reading_cpu_seconds),
            "mb_per_second_into_the_journal": rate(self.seconds), "mb_per_core_second": rate(self.cpu_seconds),
            "only_counting_mb_per_second": rate(self.counting_seconds) })
    }
}

/// Measures.
pub(super) fn run(dir: &Path, megabytes: u64, files: u64) -> Result<Measured> {
    output::note(&format!("writing {megabytes} MB of lines into {files} files"));
    let (paths, lines) = write_files(&dir.join("pods"), megabytes * 1_000_000 / files, files)?;
    let begun = Instant::now();
    let (bytes, counted) = read_and_count(&paths)?;
    let counting_seconds = begun.elapsed().as_secs_f64();
    ensure!(counted == lines, "{counted} lines were counted, {lines} were written");
    let mut reading = [0.0; PASSES];
    for pass in &mut reading {
        *pass = read_up_to_the_log(dir, bytes, lines - files)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let followed = runtime.block_on(follow(dir, bytes))?;
    let appended = followed.appended;
    ensure!(appended == lines, "{appended} records were appended, {lines} were written");
    Ok(Measured {
        bytes: bytes as f64,
        lines,
        counting_seconds,
        reading_cpu_seconds: quantile(reading.to_vec(), 50),
        seconds: followed.seconds,
        cpu_seconds: followed.cpu_seconds,
    })
}

struct Followed {
    seconds: f64,
    cpu_seconds: f64,
    appended: u64,
}

fn tail(dir: &Path) -> Result<Tail> {
    let pattern = PathPattern::parse(&format!("{}/pods/*/*/*.log", dir.display()))?;
    let (source, cluster) = ("files".into(), "bench".into());
    let source = TailSource { pattern, exclude: Vec::new(), source, cluster, format: None };
    Ok(Tail::new(TailConfig { sources: vec![source], ..TailConfig::default() }, None))
}

fn redactor() -> Redactor {
    Redactor::new([7; 32], Vec::new())
}

/// Processor time of making envelopes of all lines but the last ones of files, which wait for what may follow.
fn read_up_to_the_log(dir: &Path, bytes: u64, at_least: u64) -> Result<f64> {
    let (mut tail, redactor) = (tail(dir)?, redactor());
    let begun = thread_cpu_seconds()?;
    let (mut done, mut records) = (0, 0);
    while done < bytes {
        let batch = tail.read(clock::now(), &redactor);
        tail.commit(&batch);
        done += batch.bytes;
        records += batch.envelopes.len() as u64;
    }
    let seconds = thread_cpu_seconds()? - begun;
    ensure!(records >= at_least, "{records} records were read, there are at least {at_least}");
    Ok(seconds)
}

/// Follows the files until all is read and durable.
async fn follow(dir: &Path, bytes: u64) -> Result<Followed> {
    let journal = dir.join("journal");
    fs::create_dir_all(&journal)?;
    let log =
        Log::Disk(Journal::open(&journal, JournalConfig { keep_free_bytes: 0, ..JournalConfig::default() })?);
    let intake = Intake::open(log.clone(), &IntakeConfig::default(), clock::now())?;
    let mut follower = Follower { tail: tail(dir)?, intake, redactor: redactor(), done: 0 };
    let (begun, cpu) = (Instant::now(), process_cpu_seconds()?);
    let mut appended = 0;
    while follower.done < bytes || appended == 0 {
        appended += follower.step().await?;
    }
    let (seconds, cpu_seconds) = (begun.elapsed().as_secs_f64(), process_cpu_seconds()? - cpu);
    // the last line of each file waits for one that belongs to it
    let deadline = Instant::now() + std::time::Duration::from_secs(2);
    while Instant::now() < deadline {
        appended += follower.step().await?;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    log.close().await;
    Ok(Followed { seconds, cpu_seconds, appended })
}

struct Follower {
    tail: Tail,
    intake: Intake,
    redactor: Redactor,
    done: u64,
}

impl Follower {
    async fn step(&mut self) -> Result<u64> {
        let mut batch = self.tail.read(clock::now(), &self.redactor);
        let envelopes = std::mem::take(&mut batch.envelopes);
        let older = async |older: Vec<OlderEvent>| Ok(vec![false; older.len()]);
        let receipt = self.intake.append(envelopes, older).await?;
        ensure!(receipt.duplicates == 0, "{} records were taken for duplicates", receipt.duplicates);
        self.tail.commit(&batch);
        self.done += batch.bytes;
        Ok(receipt.stored as u64)
    }
}

/// Lines as a container runtime writes them.
fn write_files(dir: &Path, bytes_each: u64, files: u64) -> Result<(Vec<PathBuf>, u64)> {
    let mut random = Random::new(1);
    let (mut paths, mut lines) = (Vec::new(), 0);
    for file in 0..files {
        let path = dir.join(format!("shop_web-{file}_6f1c-{file}/app/0.log"));
        fs::create_dir_all(path.parent().context("no directory")?)?;
        let mut text = String::new();
        while (text.len() as u64) < bytes_each {
            let number = random.next();
            let nanos = number % 1_000_000_000;
            writeln!(text, "2026-01-31T08:15:00.{nanos:09}Z stdout F {}", line(number))?;
            lines += 1;
        }
        fs::write(&path, text)?;
        paths.push(path);
    }
    Ok((paths, lines))
}

/// What every reader has to do at least.
fn read_and_count(paths: &[PathBuf]) -> Result<(u64, u64)> {
    let (mut bytes, mut lines) = (0, 0);
    let mut buffer = vec![0; 512 << 10];
    for path in paths {
        let mut file = File::open(path)?;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            bytes += count as u64;
            lines += memchr::memchr_iter(b'\n', &buffer[..count]).count() as u64;
        }
    }
    Ok((bytes, lines))
}

/// Processor time of all threads of this process so far.
fn process_cpu_seconds() -> Result<f64> {
    cpu_seconds(std::process::id()).context("/proc/self/stat has an unknown form")
}

/// Processor time of this thread so far.
fn thread_cpu_seconds() -> Result<f64> {
    const NANOSECONDS: f64 = 1e9;
    let mut text = String::new();
    File::open("/proc/thread-self/schedstat")?.take(4 << 10).read_to_string(&mut text)?;
    let nanoseconds = text.split_whitespace().next().context("/proc/thread-self/schedstat is empty")?;
    Ok(nanoseconds.parse::<f64>()? / NANOSECONDS)
}
