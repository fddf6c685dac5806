use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::StatusCode;
use serde_json::Value;

use super::client::{Client, GIVE_UP_AFTER, ServerArgs, Upload, asks_to_wait, block_on, refusal};
use super::input::{self, MAX_LINE_BYTES, ends_a_document, read_line};
use super::output;
use crate::clock;
use crate::tokens::parse_cluster_name;

/// Which files to send.
#[derive(Args)]
pub(crate) struct IngestArgs {
    /// Audit logs: one event per line, or one EventList; gzip is decompressed; `-` is standard input. With `--logs`,
    /// log lines of any format, also in the form of container runtimes or as agents send them.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The cluster the events belong to.
    #[arg(long, value_parser = parse_cluster_name)]
    cluster: String,
    /// The files hold log lines instead of audit events.
    #[arg(long)]
    logs: bool,
    /// Treat the events as if they happened now: notify whoever is on call.
    #[arg(long)]
    notify: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// A request carries about this much, so that a slow server still answers in time.
const BATCH_BYTES: usize = 4 << 20;
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

/// What became of the events sent so far.
#[derive(Default)]
struct Tally {
    stored: u64,
    duplicates: u64,
    rejected: u64,
}

impl IngestArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let client = self.server.client()?;
        let kind = if self.logs { "logs" } else { "audit" };
        let path = format!("/ingest/{kind}/{}?history={}", self.cluster, !self.notify);
        let mut tally = Tally::default();
        for file in &self.files {
            let name = file.display();
            let sending = async {
                if self.logs {
                    send_lines(&client, &path, file, &mut tally).await
                } else {
                    send_file(&client, &path, file, &mut tally).await
                }
            };
            block_on(sending)
                .with_context(|| format!("failed to send {name} (sending it again stores nothing twice)"))?;
        }
        output::note(&format!(
            "{} events stored, {} were there already, {} could not be read and are in quarantine",
            tally.stored, tally.duplicates, tally.rejected
        ));
        Ok(if tally.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Sends one file's batches.
struct Sender<'a> {
    client: &'a Client,
    path: &'a str,
    tally: &'a mut Tally,
    progress: ProgressBar,
}

async fn send_file(client: &Client, path: &str, file: &Path, tally: &mut Tally) -> Result<()> {
    let (input, progress) = open(file)?;
    let mut sender = Sender { client, path, tally, progress };
    let mut lines = BufReader::with_capacity(256 << 10, input);
    let mut batch = Vec::with_capacity(BATCH_BYTES + (64 << 10));
    let mut whole = false;
    loop {
        if batch.trim_ascii().is_empty() {
            batch.clear();
        }
        let before = batch.len();
        let length = read_line(&mut lines, &mut batch)?;
        // One document over many lines: it travels as a whole.
        whole |= before == 0 && !batch.trim_ascii().is_empty() && !ends_a_document(&batch);
        let end = length == 0;
        if whole && batch.len() as u64 > MAX_LINE_BYTES {
            bail!(
                "the file is one document of more than {MAX_LINE_BYTES} bytes; write one event per line instead"
            );
        }
        if !batch.is_empty() && (end || (!whole && batch.len() >= BATCH_BYTES)) {
            let body = Bytes::from(std::mem::take(&mut batch));
            sender.send(Upload { body, content_type: JSON, key: None }, !whole).await?;
        }
        if end {
            sender.progress.finish_and_clear();
            return Ok(());
        }
    }
}

/// Sends log lines. A batch is known by its file and its place in it, so that sending it again stores nothing twice.
async fn send_lines(client: &Client, path: &str, file: &Path, tally: &mut Tally) -> Result<()> {
    let (input, progress) = open(file)?;
    let mut sender = Sender { client, path, tally, progress };
    let mut lines = BufReader::with_capacity(256 << 10, input);
    let is_json = matches!(lines.fill_buf()?.trim_ascii_start().first(), Some(b'{' | b'['));
    let content_type = if is_json { JSON } else { TEXT };
    // what comes through a pipe is new each time
    let run = if file == Path::new("-") { clock::now().to_string() } else { String::new() };
    let name = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let mut sent: u64 = 0;
    loop {
        let mut batch = Vec::with_capacity(BATCH_BYTES + (64 << 10));
        let mut length = 0;
        while batch.len() < BATCH_BYTES {
            length = read_line(&mut lines, &mut batch)?;
            if length == 0 {
                break;
            }
        }
        if !batch.trim_ascii().is_empty() {
            let place = blake3::hash(format!("{run}{}\0{sent}", name.display()).as_bytes());
            sent += batch.len() as u64;
            let upload = Upload { body: batch.into(), content_type, key: Some(place.to_hex().to_string()) };
            sender.send(upload, true).await?;
        }
        if length == 0 {
            sender.progress.finish_and_clear();
            return Ok(());
        }
    }
}

impl Sender<'_> {
    /// Sends one batch; one that the server finds too large in halves, if it may be cut between lines.
    async fn send(&mut self, upload: Upload, may_cut: bool) -> Result<()> {
        let mut waiting = vec![upload];
        while let Some(upload) = waiting.pop() {
            let (status, answer) = self.post(&upload).await?;
            if status.is_success() {
                self.tally.add(&answer)?;
                self.progress.set_message(format!("{} stored", self.tally.stored));
                continue;
            }
            match halves(&upload).filter(|_| may_cut && status == StatusCode::PAYLOAD_TOO_LARGE) {
                Some((first, second)) => waiting.extend([second, first]),
                None => bail!("{}", refusal(status, &answer)),
            }
        }
        Ok(())
    }

    /// Posts again and again while the server asks to wait, and says so.
    async fn post(&self, upload: &Upload) -> Result<(StatusCode, Bytes)> {
        let started = Instant::now();
        loop {
            let response = self.client.post(self.path, upload).await?;
            let (status, wait) = (response.status(), asks_to_wait(&response));
            let answer = response.bytes().await.context("failed to read the server's answer")?;
            let Some(wait) = wait.filter(|_| started.elapsed() < GIVE_UP_AFTER) else {
                return Ok((status, answer));
            };
            self.progress.set_message(format!("waiting: {}", refusal(status, &answer)));
            tokio::time::sleep(wait).await;
        }
    }
}

impl Tally {
    fn add(&mut self, answer: &[u8]) -> Result<()> {
        let answer: Value = serde_json::from_slice(answer).context("the server's answer is not JSON")?;
        self.stored += answer["stored"].as_u64().unwrap_or(0);
        self.duplicates += answer["duplicates"].as_u64().unwrap_or(0);
        self.rejected += answer["rejected"].as_u64().unwrap_or(0);
        Ok(())
    }
}

/// What is before and behind the line break nearest to the middle; none of a single line. Each half has a key of
/// its own, the same ones if the file is sent again.
fn halves(upload: &Upload) -> Option<(Upload, Upload)> {
    let body = &upload.body;
    let middle = body.len() / 2;
    let behind = body[middle..].iter().position(|byte| *byte == b'\n').map(|at| middle + at + 1);
    let before = body[..middle].iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
    let cut = behind.filter(|cut| *cut < body.len()).or(before)?;
    let half = |body: Bytes, name: &str| {
        let key = upload.key.as_ref();
        let key = key.map(|key| blake3::hash(format!("{key}{name}").as_bytes()).to_hex().to_string());
        Upload { body, content_type: upload.content_type, key }
    };
    Some((half(body.slice(..cut), "/1"), half(body.slice(cut..), "/2")))
}

/// Opens the file with a progress bar over the bytes read from disk.
fn open(path: &Path) -> Result<(Box<dyn Read>, ProgressBar)> {
    let input = input::open(path)?;
    let Some(length) = input.length else {
        let progress = ProgressBar::new_spinner();
        return Ok((input::decompressed(progress.wrap_read(input.bytes))?, progress));
    };
    let progress = ProgressBar::new(length);
    let style = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}";
    progress.set_style(ProgressStyle::with_template(style)?);
    progress.set_prefix(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    Ok((input::decompressed(progress.wrap_read(input.bytes))?, progress))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_between_lines_into_parts_with_keys_of_their_own() {
        let cut = |body: &'static str| {
            let upload = Upload { body: body.into(), content_type: TEXT, key: Some("k".to_owned()) };
            let (first, second) = halves(&upload)?;
            assert!(first.key.is_some() && first.key != second.key);
            Some([first, second].map(|half| String::from_utf8(half.body.to_vec()).unwrap()))
        };
        for (body, expect) in [
            ("a\nb\n", Some(["a\n", "b\n"])),
            ("a\nbbbbbbbbb\n", Some(["a\n", "bbbbbbbbb\n"])),
            ("aaaaaaaaa\nb", Some(["aaaaaaaaa\n", "b"])),
            ("a\n", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(cut(body), expect.map(|halves| halves.map(str::to_owned)), "{body:?}");
        }
    }
}
