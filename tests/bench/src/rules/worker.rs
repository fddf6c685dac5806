//! The engines that this program holds: watchbell, and reading alone as a baseline.

use std::borrow::Cow;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use watchbell_rules::{Evaluator, Lists, RuleSet, load};

use super::rounds::{self, Engine, Outcome};
use super::sets::SEPARATOR;

/// Which engine to run, on what.
#[derive(Args)]
pub(crate) struct WorkerArgs {
    engine: Own,
    rules: PathBuf,
    events: PathBuf,
}

/// A file of a few events is read so many times to learn from.
const MAX_LEARNING_PASSES: usize = 10_000;

#[derive(Clone, Copy, ValueEnum)]
enum Own {
    Watchbell,
    Reading,
}

impl WorkerArgs {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let load = match self.engine {
            Own::Watchbell => watchbell,
            Own::Reading => reading,
        };
        rounds::serve(&self.rules, &self.events, load).map_err(|error| anyhow!("{error}"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// As the server runs it: found by guesses at first, then by what is rare in the traffic.
pub(crate) fn watchbell(rules: &str, events: &[&[u8]]) -> Result<Engine, Box<dyn Error>> {
    let files: Vec<_> = rules.split(SEPARATOR).map(|rule| ("rules".to_owned(), rule.to_owned())).collect();
    let loaded = load(&files, &Lists::shipped());
    let set = Arc::new(RuleSet::compile(loaded.rules));
    let rules = set.rules().len();
    let mut evaluator = Evaluator::new(set);
    let mut matches = Vec::new();
    let mut passes = std::iter::repeat_n(events, MAX_LEARNING_PASSES).flatten();
    let learned = passes.find_map(|event| {
        evaluator.matches(event, &mut matches);
        evaluator.learned()
    });
    if let Some(traffic) = learned {
        evaluator.follow(Arc::new(evaluator.rules().replan(&traffic)));
    }
    let evaluate = Box::new(move |event: &[u8]| {
        let candidates = evaluator.candidates();
        evaluator.matches(event, &mut matches);
        Outcome { matches: matches.len() as u64, candidates: evaluator.candidates() - candidates }
    });
    Ok(Engine { rules, refused: loaded.errors.len(), evaluate })
}

/// The least that any engine must do: ten fields that most rules read, borrowed from the bytes.
pub(crate) fn reading(_rules: &str, _events: &[&[u8]]) -> Result<Engine, Box<dyn Error>> {
    let evaluate = Box::new(|event: &[u8]| {
        let fields: Result<TenFields<'_>, _> = serde_json::from_slice(event);
        std::hint::black_box(&fields);
        Outcome::default()
    });
    Ok(Engine { rules: 0, refused: 0, evaluate })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TenFields<'a> {
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow)]
    stage: Cow<'a, str>,
    #[serde(borrow)]
    verb: Cow<'a, str>,
    #[serde(borrow, rename = "requestURI")]
    request_uri: Cow<'a, str>,
    #[serde(borrow)]
    user_agent: Cow<'a, str>,
    #[serde(borrow)]
    user: User<'a>,
    #[serde(borrow)]
    object_ref: ObjectRef<'a>,
    response_status: ResponseStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User<'a> {
    #[serde(borrow)]
    username: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectRef<'a> {
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_reads_what_an_event_has() {
        let event = br#"{"verb":"get","user":{"username":"a\"b"},"objectRef":{"name":"x"},"responseStatus":{"code":403}}"#;
        let fields: TenFields<'_> = serde_json::from_slice(event).unwrap();
        assert!(matches!(fields.verb, Cow::Borrowed("get")));
        assert_eq!((&*fields.user.username, fields.response_status.code), ("a\"b", Some(403)));
    }
}
