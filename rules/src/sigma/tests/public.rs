//! A public rule set, which is not part of this repository, as a loading test.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

fn collect(folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yml") {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            files.push((path.display().to_string(), text));
        }
    }
}

/// Prints how many rules load and why the others do not; run with `--nocapture`.
#[test]
#[ignore = "needs a folder of Sigma rules in PUBLIC_SIGMA_RULES"]
fn every_rule_loads_or_is_refused_with_file_line_and_reason() {
    let folder = std::env::var("PUBLIC_SIGMA_RULES").expect("PUBLIC_SIGMA_RULES names a folder");
    let mut files = Vec::new();
    collect(Path::new(&folder), &mut files);
    let loaded = load(&files, &Lists::shipped());
    let mut reasons = BTreeMap::<String, usize>::new();
    for error in &loaded.errors {
        let (_, text) = files.iter().find(|(name, _)| *name == error.file).unwrap();
        assert!(error.line <= text.lines().count() + 1 && !error.reason.is_empty(), "{error}");
        println!("{error}");
        let quoted = error.reason.split('"').step_by(2).collect::<Vec<_>>().join("…");
        *reasons.entry(quoted.rsplit(": ").next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    println!("{} rules of {} files; refusals: {reasons:#?}", loaded.rules.len(), files.len());
    let set = Arc::new(RuleSet::compile(loaded.rules));
    assert!(Evaluator::new(set).matches(br#"{"CommandLine":"x","verb":"get"}"#, &mut Vec::new()));
}
