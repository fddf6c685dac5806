use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::Value;
use watchbell_event::EventId;

use super::client::{Client, ServerArgs, Upload, block_on, refusal};
use super::output;
use super::page::{self, List, PageArgs};

/// What to do with what could not be read.
#[derive(Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List it, newest first, without the bytes.
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Print the bytes of one entry as they were kept; they may hold secrets. What is known of it goes to
    /// standard error.
    Show {
        /// The entry's key, from `watchbell quarantine list`.
        #[arg(value_parser = parse_key)]
        key: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Try again to read entries, for instance after a limit was raised. Exit code 1 if one still cannot be
    /// read.
    Retry {
        /// Keys of entries.
        #[arg(required_unless_present = "all", value_parser = parse_key)]
        keys: Vec<String>,
        /// All entries that are not done and can be tried again.
        #[arg(long, conflicts_with = "keys")]
        all: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
}

impl QuarantineCommand {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::List { page } => list(page),
            Self::Show { key, server } => show(&server.client()?, &key),
            Self::Retry { keys, all, server } => block_on(retry(&server.client()?, keys, all)),
        }
    }
}

/// Reads the key of an entry.
fn parse_key(text: &str) -> Result<String, &'static str> {
    let parsed = text.parse::<EventId>();
    parsed
        .map(|key| key.to_string())
        .map_err(|_| "a key is 32 hexadecimal digits; `watchbell quarantine list` shows them")
}

const PATH: &str = "/api/v1/quarantine";
const ENTRIES: List = List {
    path: PATH,
    member: "entries",
    header: &["key", "time", "cluster", "source", "bytes", "state", "reason"],
    row,
};

fn list(page: PageArgs) -> Result<ExitCode> {
    page::note_more(&page.show(&ENTRIES, Vec::new())?);
    Ok(ExitCode::SUCCESS)
}

fn row(entry: &Value) -> Vec<String> {
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let state = match (entry["done_at"].as_str(), entry["repaired"].as_bool()) {
        (Some(at), _) => format!("done {at}"),
        (None, Some(true)) => "kept, repaired".to_owned(),
        (None, _) => "open".to_owned(),
    };
    let reason = format!("{}: {}", text("place"), text("reason"));
    let bytes = entry["total_bytes"].to_string();
    vec![text("key"), text("time"), text("cluster"), text("source"), bytes, state, reason]
}

fn show(client: &Client, key: &str) -> Result<ExitCode> {
    let answer = block_on(client.get(&format!("{PATH}/{key}"), &[]))?;
    output::note(&answer["entry"].to_string());
    let bytes = match (answer["text"].as_str(), answer["base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, base64) => STANDARD.decode(base64.unwrap_or_default()).context("the answer is not base64")?,
    };
    std::io::stdout().lock().write_all(&bytes)?;
    Ok(ExitCode::SUCCESS)
}

async fn retry(client: &Client, keys: Vec<String>, all: bool) -> Result<ExitCode> {
    let keys = if all { open_keys(client).await? } else { keys };
    let nothing = Upload { body: bytes::Bytes::new(), content_type: "application/json", key: None };
    let mut failed = 0;
    for key in &keys {
        let response = client.post(&format!("{PATH}/{key}/retry"), &nothing).await?;
        let status = response.status();
        let body = response.bytes().await.context("failed to read the server's answer")?;
        if !status.is_success() {
            output::note(&format!("{key}: {}", refusal(status, &body)));
            failed += 1;
            continue;
        }
        let answer: Value = serde_json::from_slice(&body).context("the server's answer is not JSON")?;
        let (stored, duplicates) = (&answer["stored"], &answer["duplicates"]);
        output::line(&format!("{key}: {stored} events stored, {duplicates} were there already"))?;
        failed += usize::from(answer["done"] != true);
    }
    output::note(&format!("{} of {} entries are done", keys.len() - failed, keys.len()));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The keys of all entries that can be tried again, newest first.
async fn open_keys(client: &Client) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    let mut query = vec![("limit", "1000".to_owned())];
    loop {
        let page = client.get(PATH, &query).await?;
        let entries = page["entries"].as_array().into_iter().flatten();
        let open = entries.filter(|entry| entry["done_at"].is_null() && entry["repaired"] != true);
        keys.extend(open.filter_map(|entry| entry["key"].as_str()).map(ToOwned::to_owned));
        let Some(cursor) = page["next_cursor"].as_str() else { return Ok(keys) };
        query.truncate(1);
        query.push(("cursor", cursor.to_owned()));
    }
}
