//! Files of containers to the journal, all in this process: read, join, decode, deduplicate, append, sync.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use watchbell_ingest::intake::{Intake, IntakeConfig, OlderEvent};
use watchbell_ingest::log::{Journal, JournalConfig, Log};
use watchbell_ingest::redact::Redactor;
use watchbell_ingest::tail::{PathPattern, Tail, TailConfig, TailSource};

use crate::random::Random;
use crate::{clock, output};

const GOAL_MB_PER_SECOND: f64 = 100.0;
const MB: f64 = 1e6;

/// Measures and reports; true if the goal is met.
pub(super) fn run(dir: Option<&Path>, megabytes: u64, files: u64) -> Result<bool> {
    let own = std::env::current_exe()?;
    let parent = dir.or(own.parent()).context("this program lies in no directory")?;
    let dir = tempfile::Builder::new().prefix("bench-tail-").tempdir_in(parent)?;
    output::note(&format!("writing {megabytes} MB of lines into {files} files"));
    let (paths, lines) = write_files(&dir.path().join("pods"), megabytes * 1_000_000 / files, files)?;

    let begun = Instant::now();
    let (bytes, counted) = read_and_count(&paths)?;
    let bare = bytes as f64 / MB / begun.elapsed().as_secs_f64();
    ensure!(counted == lines, "{counted} lines were counted, {lines} were written");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Measured { seconds, cpu_seconds, appended } = runtime.block_on(follow(dir.path(), bytes))?;
    ensure!(appended == lines, "{appended} records were appended, {lines} were written");
    let (wall, core) = (bytes as f64 / MB / seconds, bytes as f64 / MB / cpu_seconds);
    let met = core >= GOAL_MB_PER_SECOND;
    output::line(&format!("read and count lines            {bare:8.0} MB/s"))?;
    output::line(&format!("files to journal                {wall:8.0} MB/s, {:.3} of that", wall / bare))?;
    output::line(&format!("  per second of one core        {core:8.0} MB/s (journal's thread included)"))?;
    output::line(&format!("  lines                         {:8.0} /s", lines as f64 / seconds))?;
    let goal = if met { "met" } else { "MISSED" };
    output::line(&format!("goal: at least {GOAL_MB_PER_SECOND} MB/s of one core   {goal}"))?;
    output::line(
        &json!({ "benchmark": "sources", "route": "tail", "bytes": bytes, "lines": lines, "files": files,
            "read_and_count_mb_per_second": bare, "mb_per_second": wall, "mb_per_core_second": core,
            "met": met })
        .to_string(),
    )?;
    Ok(met)
}

struct Measured {
    seconds: f64,
    cpu_seconds: f64,
    appended: u64,
}

/// Follows the files until all is read and durable.
async fn follow(dir: &Path, bytes: u64) -> Result<Measured> {
    let journal = dir.join("journal");
    fs::create_dir_all(&journal)?;
    let log =
        Log::Disk(Journal::open(&journal, JournalConfig { keep_free_bytes: 0, ..JournalConfig::default() })?);
    let intake = Intake::open(log.clone(), &IntakeConfig::default(), clock::now())?;
    let redactor = Redactor::new([7; 32], Vec::new());
    let pattern = PathPattern::parse(&format!("{}/pods/*/*/*.log", dir.display()))?;
    let (source, cluster) = ("files".into(), "bench".into());
    let source = TailSource { pattern, exclude: Vec::new(), source, cluster, format: None };
    let mut tail = Tail::new(TailConfig { sources: vec![source], ..TailConfig::default() }, None);
    let (begun, cpu) = (Instant::now(), cpu_seconds()?);
    let (mut done, mut appended) = (0, 0);
    while done < bytes || appended == 0 {
        appended += step(&mut tail, &intake, &redactor, &mut done).await?;
    }
    let (seconds, cpu_seconds) = (begun.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    // the last line of each file waits for one that belongs to it
    let deadline = Instant::now() + std::time::Duration::from_secs(2);
    while Instant::now() < deadline {
        appended += step(&mut tail, &intake, &redactor, &mut done).await?;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    log.close().await;
    Ok(Measured { seconds, cpu_seconds, appended })
}

async fn step(tail: &mut Tail, intake: &Intake, redactor: &Redactor, done: &mut u64) -> Result<u64> {
    let mut batch = tail.read(clock::now(), redactor);
    let envelopes = std::mem::take(&mut batch.envelopes);
    let receipt =
        intake.append(envelopes, async |older: Vec<OlderEvent>| Ok(vec![false; older.len()])).await?;
    ensure!(receipt.duplicates == 0, "{} records were taken for duplicates", receipt.duplicates);
    tail.commit(&batch);
    *done += batch.bytes;
    Ok(receipt.stored as u64)
}

/// Lines of a web server, of a component of Kubernetes, of a program that writes JSON, and of sshd.
fn write_files(dir: &Path, bytes_each: u64, files: u64) -> Result<(Vec<PathBuf>, u64)> {
    let mut random = Random::new(1);
    let (mut paths, mut lines) = (Vec::new(), 0);
    for file in 0..files {
        let path = dir.join(format!("shop_web-{file}_6f1c-{file}/app/0.log"));
        fs::create_dir_all(path.parent().context("no directory")?)?;
        let mut text = String::new();
        while (text.len() as u64) < bytes_each {
            let number = random.next();
            let (low, millis) = (number % 251, number / 251 % 1_000);
            write!(text, "2026-01-31T08:15:00.{:09}Z stdout F ", number % 1_000_000_000)?;
            match number / 7 % 4 {
                0 => writeln!(
                    text,
                    "10.1.2.{low} - - [31/Jan/2026:08:15:00 +0000] \"GET /api/v1/items/{millis} HTTP/1.1\" 200 {millis} \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\""
                )?,
                1 => writeln!(
                    text,
                    "I0131 08:15:00.000{millis:03}       1 controller.go:{low}] Reconciled deployment shop/web-{low} in {millis}ms"
                )?,
                2 => writeln!(
                    text,
                    "{{\"level\":\"info\",\"ts\":1769847300.{millis:03},\"msg\":\"handled request\",\"path\":\"/items/{low}\",\"duration_ms\":{millis},\"user\":\"u{low}\"}}"
                )?,
                _ => writeln!(
                    text,
                    "worker {low} finished batch {millis} of the nightly export without any error at all"
                )?,
            }
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
fn cpu_seconds() -> Result<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let mut stat = String::new();
    File::open("/proc/self/stat")?.take(4 << 10).read_to_string(&mut stat)?;
    // user and system time are the 12th and 13th after the name in parentheses
    let fields = stat.rsplit(')').next().context("/proc/self/stat has an unknown form")?.split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}
