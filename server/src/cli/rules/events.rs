//! The events of a file, in every form that `watchbell ingest` takes: one per line, an `EventList`, an array, and any of
//! them over many lines.

use std::borrow::Cow;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::input::{self, MAX_LINE_BYTES, ends_a_document, read_line, without_mark};
use crate::cli::output;

/// Hands each event of a file to `take`, which tells whether it is a JSON object, and returns how many texts were no
/// event; each of these is noted. An event has the number of its line, from 0; in a file that begins with a list or with
/// a document over many lines, the number of events before it.
///
/// # Errors
/// If the file cannot be read, nothing of it is an event, or `take` fails.
pub(super) fn each_event(path: &Path, take: impl FnMut(u64, &[u8]) -> Result<bool>) -> Result<u64> {
    let mut events = Events { take, numbering: None, taken: 0, unreadable: 0, first_flaw: None };
    events.read(path).with_context(|| format!("failed to read events from {}", path.display()))?;
    Ok(events.unreadable)
}

/// What the numbers of events count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbering {
    Lines,
    Events,
}

struct Events<F> {
    take: F,
    /// As the first text that is not empty has it.
    numbering: Option<Numbering>,
    taken: u64,
    unreadable: u64,
    first_flaw: Option<String>,
}

impl<F: FnMut(u64, &[u8]) -> Result<bool>> Events<F> {
    fn read(&mut self, path: &Path) -> Result<()> {
        let mut lines = BufReader::new(input::decompressed(input::open(path)?.bytes)?);
        let mut text = Vec::new();
        for line in 0_u64.. {
            text.clear();
            if read_line(&mut lines, &mut text).with_context(|| format!("line {}", line + 1))? == 0 {
                break;
            }
            if without_mark(&text).trim_ascii().is_empty() {
                continue;
            }
            if self.numbering.is_none() && !ends_a_document(&text) {
                lines.by_ref().take(MAX_LINE_BYTES + 1).read_to_end(&mut text)?;
                self.take_document(line, &text)?;
                break;
            }
            self.take_value(line, without_mark(&text).trim_ascii())?;
        }
        match &self.first_flaw {
            Some(flaw) if self.taken == 0 => bail!("nothing in it is an event; {flaw}"),
            None if self.taken == 0 => output::note(&format!("{}: no events", path.display())),
            _ => {}
        }
        Ok(())
    }

    /// Takes what stands over many lines, of which `line` is the first.
    fn take_document(&mut self, line: u64, text: &[u8]) -> Result<()> {
        if text.len() as u64 > MAX_LINE_BYTES {
            bail!(
                "the file is one document of more than {MAX_LINE_BYTES} bytes; write one event per line instead"
            );
        }
        self.numbering = Some(Numbering::Events);
        for value in serde_json::Deserializer::from_slice(without_mark(text)).into_iter::<&RawValue>() {
            match value {
                Ok(value) => self.take_value(line, value.get().as_bytes())?,
                Err(error) => self.flaw(&format!("line {} is not JSON: {error}", line + error.line() as u64)),
            }
        }
        Ok(())
    }

    fn take_value(&mut self, line: u64, value: &[u8]) -> Result<()> {
        let shape = Shape::of(value);
        let is_list = matches!(shape, Shape::List(_));
        let numbering =
            *self.numbering.get_or_insert(if is_list { Numbering::Events } else { Numbering::Lines });
        match shape {
            Shape::Single => self.take_event(numbering, line, value),
            Shape::List(items) => {
                items.iter().try_for_each(|item| self.take_event(numbering, line, item.get().as_bytes()))
            }
            Shape::OtherList(kind) => {
                self.flaw(&format!("line {} is of the kind {kind}, which lists no audit events", line + 1));
                Ok(())
            }
        }
    }

    fn take_event(&mut self, numbering: Numbering, line: u64, event: &[u8]) -> Result<()> {
        let (number, place) = match numbering {
            Numbering::Lines => (line, format!("line {}", line + 1)),
            Numbering::Events => {
                let number = self.taken + self.unreadable;
                (number, format!("event {number}"))
            }
        };
        if (self.take)(number, event)? {
            self.taken += 1;
        } else {
            self.flaw(&format!("{place} is not a JSON object"));
        }
        Ok(())
    }

    fn flaw(&mut self, flaw: &str) {
        let flaw = output::printable(flaw);
        output::note(&flaw);
        self.unreadable += 1;
        self.first_flaw.get_or_insert(flaw);
    }
}

/// What a JSON value is to be read as.
enum Shape<'a> {
    /// One event, if it is an object.
    Single,
    /// As many events as there are items.
    List(Vec<&'a RawValue>),
    /// A list of something else, of this kind.
    OtherList(String),
}

/// The head of a list. An object that has no such head is an event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    api_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

impl<'a> Shape<'a> {
    fn of(value: &'a [u8]) -> Self {
        if value.first() == Some(&b'[') {
            return serde_json::from_slice(value).map_or(Self::Single, Self::List);
        }
        match serde_json::from_slice::<Head<'_>>(value) {
            Ok(Head { kind, api_version, items }) if kind.ends_with("List") => {
                let is_audit = api_version.is_none_or(|version| version.starts_with("audit.k8s.io/"));
                if kind == "EventList" && is_audit {
                    Self::List(items.unwrap_or_default())
                } else {
                    Self::OtherList(kind.chars().take(64).collect())
                }
            }
            _ => Self::Single,
        }
    }
}

/// Reads the one event of a file.
///
/// # Errors
/// If the file cannot be read, or holds none or several.
pub(super) fn one_event(path: &Path) -> Result<Vec<u8>> {
    let (mut found, mut count) = (None, 0_u64);
    each_event(path, |_, event| {
        count += 1;
        found.get_or_insert_with(|| event.to_vec());
        Ok(true)
    })?;
    let name = path.display();
    match found {
        Some(event) if count == 1 => Ok(event),
        Some(_) => {
            Err(anyhow!("{name} holds {count} events; write the one that is meant into a file of its own"))
        }
        None => Err(anyhow!("{name} holds no event")),
    }
}
