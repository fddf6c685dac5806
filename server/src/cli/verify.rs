use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use watchbell_ingest::log::{VerifyReport, verify};

use super::DataDirArgs;
use super::output::{self, Format};

/// Which journal to verify.
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// `json` prints one object.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    data: DataDirArgs,
}

impl VerifyArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let report = verify(&self.data.data_dir.join("journal"))?;
        match self.format {
            Format::Json => output::line(&as_json(&report).to_string())?,
            Format::Table => output::line(&as_text(&report))?,
        }
        Ok(if report.broken.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn as_text(report: &VerifyReport) -> String {
    let head = hex(&report.head);
    let verified = format!(
        "{} events ({} to {}) in {} frames of {} segments\nhead {head}",
        report.records,
        report.first,
        report.end.saturating_sub(1),
        report.frames,
        report.segments,
    );
    match &report.broken {
        None => format!(
            "whole: {verified}\n{} bytes of an unfinished frame at the end\nThat the newest events were not cut off \
             shows only against a head that was noted elsewhere.",
            report.unfinished_bytes
        ),
        Some(broken) => format!(
            "BROKEN at event {} ({} at byte {}): {}\nproved before that: {verified}",
            broken.record,
            broken.file.display(),
            broken.byte,
            broken.reason
        ),
    }
}

fn as_json(report: &VerifyReport) -> serde_json::Value {
    let broken = report.broken.as_ref().map(|broken| {
        json!({ "record": broken.record, "file": broken.file, "byte": broken.byte, "reason": broken.reason })
    });
    json!({
        "whole": broken.is_none(), "segments": report.segments, "frames": report.frames,
        "records": report.records, "first": report.first, "end": report.end, "head": hex(&report.head),
        "unfinished_bytes": report.unfinished_bytes, "broken": broken,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
