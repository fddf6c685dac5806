//! Runs another engine as `bench rules` asks: `bench-peers ENGINE RULES EVENTS`.

use std::error::Error;
use std::path::Path;

use rsigma_eval::Engine as Rsigma;
use rsigma_eval::event::JsonEvent;

#[path = "../../src/rules/rounds.rs"]
mod rounds;

use rounds::{Engine, Outcome};

/// The allocator of the engine it is compared with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, rules, events] = arguments.as_slice() else {
        return Err("usage: bench-peers rsigma|rsigma-prefiltered|sigma-rust RULES EVENTS".into());
    };
    let load = match engine.as_str() {
        "rsigma" => |rules: &str| rsigma(rules, false),
        "rsigma-prefiltered" => |rules: &str| rsigma(rules, true),
        "sigma-rust" => sigma_rust,
        other => return Err(format!("there is no engine {other:?}").into()),
    };
    rounds::serve(Path::new(rules), Path::new(events), |rules, _| load(rules))
}

/// Each document of a file of rules.
fn documents(rules: &str) -> impl Iterator<Item = &str> {
    rules.split("\n---\n").filter(|document| !document.trim().is_empty())
}

/// As its documentation shows it: a document tree, borrowed by the event. What it offers for large sets of rules, an
/// automaton over the words of all rules, is off unless asked for.
fn rsigma(rules: &str, prefiltered: bool) -> Result<Engine, Box<dyn Error>> {
    let mut parsed = Vec::new();
    let mut refused = 0;
    for document in documents(rules) {
        match rsigma_parser::parse_sigma_yaml(document) {
            Ok(collection) if !collection.has_errors() => parsed.extend(collection.rules),
            _ => refused += 1,
        }
    }
    let mut engine = Rsigma::new();
    engine.set_cross_rule_ac(prefiltered);
    refused += engine.add_rules(&parsed).len();
    let rules = engine.rule_count();
    let evaluate = Box::new(move |event: &[u8]| {
        let Ok(event) = serde_json::from_slice(event) else { return Outcome::default() };
        let matches = engine.evaluate(&JsonEvent::borrow(&event));
        Outcome { matches: matches.len() as u64, candidates: 0 }
    });
    Ok(Engine { rules, refused, evaluate })
}

/// As its documentation shows it: an event from JSON, one rule after the other.
fn sigma_rust(rules: &str) -> Result<Engine, Box<dyn Error>> {
    let (mut taken, mut refused) = (Vec::new(), 0);
    for document in documents(rules) {
        match sigma_rust::rule_from_yaml(document) {
            Ok(rule) => taken.push(rule),
            Err(_) => refused += 1,
        }
    }
    let rules = taken.len();
    let evaluate = Box::new(move |event: &[u8]| {
        let event = std::str::from_utf8(event).ok().and_then(|text| sigma_rust::event_from_json(text).ok());
        let Some(event) = event else { return Outcome::default() };
        let matches = taken.iter().filter(|rule| rule.is_match(&event)).count();
        Outcome { matches: matches as u64, candidates: 0 }
    });
    Ok(Engine { rules, refused, evaluate })
}
