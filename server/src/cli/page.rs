//! Lists that a server hands out page by page.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::client::{ServerArgs, block_on};
use super::output::{self, Format};
use crate::clock;
use crate::http::{TIME_FORMS, parse_time};

/// Which page of a list to show, and how.
#[derive(Args)]
pub(super) struct PageArgs {
    /// How many to list.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Where an earlier list left off.
    #[arg(long)]
    cursor: Option<String>,
    /// `json` prints one per line, as the server gives it.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    server: ServerArgs,
}

/// A list in the answers of a server: where to ask, what its answers call it, and how it looks as a table.
pub(super) struct List {
    pub(super) path: &'static str,
    pub(super) member: &'static str,
    pub(super) header: &'static [&'static str],
    pub(super) row: fn(&Value) -> Vec<String>,
}

/// Checks a time, which the server reads, as its clock may differ.
///
/// # Errors
/// If the server would refuse it.
pub(super) fn time(text: &str) -> Result<String, String> {
    match parse_time(text, clock::now()) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("it must be {TIME_FORMS}")),
    }
}

impl PageArgs {
    /// Asks for the page of what these parameters choose, prints it, and returns the answer.
    pub(super) fn show(self, list: &List, parameters: Vec<(&'static str, Option<String>)>) -> Result<Value> {
        let mut query = vec![("limit", self.limit.to_string())];
        for (name, value) in parameters.into_iter().chain([("cursor", self.cursor)]) {
            query.extend(value.map(|value| (name, value)));
        }
        let answer = block_on(self.server.client()?.get(list.path, &query))?;
        let members = answer[list.member].as_array().into_iter().flatten();
        output::list(self.format, list.header, members, list.row)?;
        Ok(answer)
    }
}

/// Says how to go on, if there is more.
pub(super) fn note_more(answer: &Value) {
    if let Some(cursor) = answer["next_cursor"].as_str() {
        output::note(&format!("more: --cursor {cursor}"));
    }
}
