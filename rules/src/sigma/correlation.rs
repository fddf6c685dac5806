//! Sigma correlations (specification 2.1.0), and `new_value`, which is ours.

use watchbell_event::yaml::{Entry, Node, Value};

use super::condition::Selections;
use crate::correlate::{
    Bound, Comparison, Condition, Correlation, GroupField, Kind, MAX_COUNTED_FIELDS, MAX_REFERENCES,
    MAX_THRESHOLD, Presence, Reference,
};
use crate::formula::{Check, Field, Formula, number};
use crate::problems::Problems;
use crate::text::number_text;

/// Longest timespan, in days.
const MAX_SPAN_DAYS: i64 = 400;
/// How long a group learns if the rule says nothing, in microseconds: seven days, or the timespan if shorter.
const DEFAULT_WARM_UP_MICROS: i64 = 7 * DAY_MICROS;
const DAY_MICROS: i64 = 86_400_000_000;

const KEYS: [&str; 9] =
    ["type", "rules", "group-by", "timespan", "timeframe", "condition", "aliases", "generate", "warm-up"];

/// Reads what stands under `correlation` in a document.
pub(super) fn read(document: &Node, node: &Node, problems: &mut Problems<'_>) -> Option<Correlation> {
    let before = problems.count();
    let Some(entries) = node.entries() else {
        problems.add(node.line, format!("correlation must be a mapping, not {}", node.kind()));
        return None;
    };
    for entry in entries.iter().filter(|entry| !KEYS.contains(&entry.key.as_str())) {
        let known = KEYS.join(", ");
        problems.add(entry.line, format!("unknown key {:?} of correlation; known: {known}", entry.key));
    }
    if let Some(entry) = document.entries()?.iter().find(|entry| entry.key == "detection") {
        problems.add(entry.line, "a document is a detection or a correlation, not both");
    }
    let kind = kind(node, problems)?;
    let references = references(node, problems);
    let fields = fields(node, kind, problems);
    let condition = condition(node, kind, &references, problems);
    let span = ["timespan", "timeframe"].into_iter().filter_map(|key| node.get(key)).collect::<Vec<_>>();
    let span_micros = match span.as_slice() {
        [span] => problems.check(span.line, span_text(span).and_then(|text| micros(&text))),
        [] => problems.check(node.line, Err("the correlation has no timespan".to_owned())),
        [_, second, ..] => problems.check(second.line, Err("timespan is given twice".to_owned())),
    };
    let warm_up_micros = warm_up(node, kind, span_micros, problems);
    let group_by = group_by(node, &references, problems);
    let generate = generate(document, node, problems);
    if problems.count() > before {
        return None;
    }
    Some(Correlation {
        kind: with_percentile(kind, node),
        references,
        group_by,
        fields,
        span_micros: span_micros?,
        condition: condition?,
        generate,
        warm_up_micros: warm_up_micros?,
    })
}

fn kind(node: &Node, problems: &mut Problems<'_>) -> Option<Kind> {
    let Some(name) = node.get("type") else {
        problems.add(node.line, "the correlation has no type");
        return None;
    };
    let text = name.scalar_text().unwrap_or_default();
    Some(match text.as_str() {
        "event_count" => Kind::EventCount,
        "value_count" => Kind::ValueCount,
        "temporal" => Kind::Temporal,
        "temporal_ordered" => Kind::TemporalOrdered,
        "value_sum" => Kind::Sum,
        "value_avg" => Kind::Average,
        "value_percentile" => Kind::Percentile(50.0),
        "value_median" => Kind::Median,
        "new_value" => Kind::NewValue,
        _ => {
            problems.add(
                name.line,
                format!(
                    "unknown type {text:?} of correlation; known: event_count, value_count, temporal, \
                     temporal_ordered, value_sum, value_avg, value_percentile, value_median, new_value"
                ),
            );
            return None;
        }
    })
}

fn references(node: &Node, problems: &mut Problems<'_>) -> Vec<Reference> {
    let Some(rules) = node.get("rules") else {
        problems.add(node.line, "the correlation names no rules");
        return Vec::new();
    };
    let items = rules.items().unwrap_or(std::slice::from_ref(rules));
    if items.is_empty() || items.len() > MAX_REFERENCES {
        problems.add(rules.line, format!("rules must name 1 to {MAX_REFERENCES} rules"));
    }
    let mut references: Vec<Reference> = Vec::new();
    for item in items {
        match item.scalar_text() {
            Some(name) if references.iter().any(|known| known.name == name) => {
                problems.add(item.line, format!("rule {name:?} is listed twice"));
            }
            Some(name) => references.push(Reference { name, line: item.line }),
            None => problems.add(item.line, format!("a rule is named by text, not {}", item.kind())),
        }
    }
    references
}

/// The fields that are counted: `field` within the condition.
fn fields(node: &Node, kind: Kind, problems: &mut Problems<'_>) -> Vec<String> {
    let field = node.get("condition").and_then(|condition| condition.get("field"));
    let counts_values = !matches!(kind, Kind::EventCount | Kind::Temporal | Kind::TemporalOrdered);
    let Some(field) = field else {
        if counts_values {
            problems.add(node.line, "the condition of this type needs a field");
        }
        return Vec::new();
    };
    if !counts_values {
        problems.add(field.line, "the condition of this type takes no field");
    }
    let items = field.items().unwrap_or(std::slice::from_ref(field));
    let most = if matches!(kind, Kind::ValueCount | Kind::NewValue) { MAX_COUNTED_FIELDS } else { 1 };
    if items.is_empty() || items.len() > most {
        problems.add(field.line, format!("field must name 1 to {most} fields"));
    }
    items.iter().filter_map(|item| field_name(item, problems)).collect()
}

fn field_name(node: &Node, problems: &mut Problems<'_>) -> Option<String> {
    let name = match node.scalar_text() {
        Some(name) => Field::path(&name).map(|_| name),
        None => Err(format!("a field is named by text, not {}", node.kind())),
    };
    problems.check(node.line, name)
}

fn condition(
    node: &Node,
    kind: Kind,
    references: &[Reference],
    problems: &mut Problems<'_>,
) -> Option<Condition> {
    let is_temporal = matches!(kind, Kind::Temporal | Kind::TemporalOrdered);
    let all = || {
        let bound = count(references.len());
        Condition::Number(vec![Bound { comparison: Comparison::GreaterOrEqual, number: bound }])
    };
    let Some(condition) = node.get("condition") else {
        if is_temporal {
            return Some(all());
        }
        problems.add(node.line, "the correlation has no condition");
        return None;
    };
    match &condition.value {
        Value::Mapping(entries) => {
            let before = problems.count();
            let bounds = bounds(entries, kind, problems);
            match (kind, bounds.is_empty()) {
                (Kind::NewValue, true) => {}
                (Kind::NewValue, false) => {
                    problems.add(condition.line, "the condition of new_value takes nothing but a field");
                }
                (_, true) if is_temporal => return Some(all()),
                (_, true) if problems.count() > before => {}
                (_, true) => problems.add(condition.line, "the condition compares to no number"),
                (_, false) => {}
            }
            Some(Condition::Number(bounds))
        }
        Value::String(text) if is_temporal => {
            problems.check(condition.line, presence(text, kind, references)).map(Condition::Rules)
        }
        _ => {
            let takes = if is_temporal { "a mapping or text" } else { "a mapping" };
            problems.add(condition.line, format!("the condition must be {takes}, not {}", condition.kind()));
            None
        }
    }
}

fn bounds(entries: &[Entry], kind: Kind, problems: &mut Problems<'_>) -> Vec<Bound> {
    let mut bounds = Vec::new();
    for entry in entries {
        let comparison = match entry.key.as_str() {
            "gt" => Comparison::Greater,
            "gte" => Comparison::GreaterOrEqual,
            "lt" => Comparison::Less,
            "lte" => Comparison::LessOrEqual,
            "eq" => Comparison::Equal,
            "neq" => Comparison::NotEqual,
            "field" => continue,
            "percentile" if matches!(kind, Kind::Percentile(_)) => {
                let percentile = scalar_number(&entry.value).filter(|it| (0.0..=100.0).contains(it));
                if percentile.is_none() {
                    problems.add(entry.value.line, "percentile takes a number from 0 to 100");
                }
                continue;
            }
            key => {
                let known = "gt, gte, lt, lte, eq, neq, field, and percentile for value_percentile";
                problems.add(entry.line, format!("unknown key {key:?} of the condition; known: {known}"));
                continue;
            }
        };
        let counts =
            matches!(kind, Kind::EventCount | Kind::ValueCount | Kind::Temporal | Kind::TemporalOrdered);
        match scalar_number(&entry.value) {
            Some(number) if counts && (number.fract() != 0.0 || !(0.0..=MAX_THRESHOLD).contains(&number)) => {
                let reason = format!("a count is a whole number from 0 to {MAX_THRESHOLD}");
                problems.add(entry.value.line, reason);
            }
            Some(number) => bounds.push(Bound { comparison, number }),
            None => problems.add(entry.value.line, format!("{} compares to a number", entry.key)),
        }
    }
    bounds
}

fn scalar_number(node: &Node) -> Option<f64> {
    match &node.value {
        Value::Integer(whole, _) => number(&whole.to_string()),
        Value::Float(..) | Value::String(_) => number(&number_text(&node.scalar_text()?)),
        _ => None,
    }
}

fn with_percentile(kind: Kind, node: &Node) -> Kind {
    let percentile = node.get("condition").and_then(|condition| condition.get("percentile"));
    match (kind, percentile.and_then(scalar_number)) {
        (Kind::Percentile(_), Some(percentile)) => Kind::Percentile(percentile),
        _ => kind,
    }
}

/// Reads a Boolean expression over the names of the rules. The language is that of conditions over
/// selections, so each rule stands in as a selection that tests a field of its name.
fn presence(text: &str, kind: Kind, references: &[Reference]) -> Result<Presence, String> {
    let mut selections = Selections::default();
    for reference in references {
        let stand_in = Formula::test(Field::Path(reference.name.as_str().into()), Check::Exists);
        selections.add(&reference.name, Some(stand_in));
    }
    let formula = selections.resolve(text).map_err(|reason| reason.replace("selection", "rule"))?;
    let presence = over_rules(&formula, references)?;
    if kind == Kind::TemporalOrdered {
        let is_chain = presence.as_lists().is_some_and(|(wanted, _)| !wanted.is_empty());
        if !is_chain {
            return Err(
                "the condition of temporal_ordered is made of rules and \"not\" rules, joined by \"and\"; \
                one rule must be without \"not\""
                    .to_owned(),
            );
        }
    }
    Ok(presence)
}

fn over_rules(formula: &Formula, references: &[Reference]) -> Result<Presence, String> {
    let all = |parts: &[Formula]| -> Result<Vec<Presence>, String> {
        parts.iter().map(|part| over_rules(part, references)).collect()
    };
    Ok(match formula {
        Formula::All(parts) => Presence::All(all(parts)?),
        Formula::Any(parts) => Presence::Any(all(parts)?),
        Formula::Not(part) => Presence::Not(Box::new(over_rules(part, references)?)),
        Formula::Test(test) => {
            let rule = references.iter().position(|reference| test.field.is(&reference.name));
            Presence::Rule(rule.ok_or("the condition names a rule that is not listed")?)
        }
    })
}

fn group_by(node: &Node, references: &[Reference], problems: &mut Problems<'_>) -> Vec<GroupField> {
    let aliases = aliases(node, references, problems);
    let Some(group_by) = node.get("group-by") else { return Vec::new() };
    let items = group_by.items().unwrap_or(std::slice::from_ref(group_by));
    if items.len() > super::MAX_GROUP_FIELDS {
        problems.add(group_by.line, format!("group-by has more than {} fields", super::MAX_GROUP_FIELDS));
    }
    let mut fields: Vec<GroupField> = Vec::new();
    for item in items {
        let Some(name) = field_name(item, problems) else { continue };
        if fields.iter().any(|field| field.name == name) {
            problems.add(item.line, format!("group-by names {name:?} twice"));
            continue;
        }
        let found = aliases.iter().find(|(alias, _)| *alias == name);
        let aliases = found.map(|(_, aliases)| aliases.clone()).unwrap_or_default();
        fields.push(GroupField { name, aliases });
    }
    fields
}

/// For each alias, the fields it stands for, by rule.
fn aliases(
    node: &Node,
    references: &[Reference],
    problems: &mut Problems<'_>,
) -> Vec<(String, Vec<(String, String)>)> {
    let Some(aliases) = node.get("aliases") else { return Vec::new() };
    let Some(entries) = aliases.entries() else {
        problems.add(aliases.line, format!("aliases must be a mapping, not {}", aliases.kind()));
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let mut fields = Vec::new();
        for rule in entry.value.entries().unwrap_or_default() {
            if !references.iter().any(|reference| reference.name == rule.key) {
                let reason =
                    format!("alias {:?} is about rule {:?}, which is not among rules", entry.key, rule.key);
                problems.add(rule.line, reason);
            }
            if let Some(field) = field_name(&rule.value, problems) {
                fields.push((rule.key.clone(), field));
            }
        }
        if fields.is_empty() {
            problems.add(entry.line, format!("alias {:?} must map rules to fields", entry.key));
        }
        found.push((entry.key.clone(), fields));
    }
    found
}

fn generate(document: &Node, node: &Node, problems: &mut Problems<'_>) -> bool {
    let Some(generate) = node.get("generate").or_else(|| document.get("generate")) else { return false };
    match generate.value {
        Value::Bool(generate) => generate,
        _ => {
            problems.add(generate.line, format!("generate is true or false, not {}", generate.kind()));
            false
        }
    }
}

fn warm_up(node: &Node, kind: Kind, span: Option<i64>, problems: &mut Problems<'_>) -> Option<i64> {
    let Some(warm_up) = node.get("warm-up") else {
        return Some(DEFAULT_WARM_UP_MICROS.min(span.unwrap_or(0)));
    };
    if kind != Kind::NewValue {
        problems.add(warm_up.line, "warm-up belongs to new_value");
    }
    if matches!(warm_up.value, Value::Integer(0, _)) {
        return Some(0);
    }
    problems.check(warm_up.line, span_text(warm_up).and_then(|text| micros(&text)))
}

fn span_text(node: &Node) -> Result<String, String> {
    node.scalar_text().ok_or_else(|| format!("a timespan is text such as 5m, not {}", node.kind()))
}

/// A timespan: a whole number and a unit. A month has 30 days and a year 365.
pub(crate) fn micros(text: &str) -> Result<i64, String> {
    let wrong =
        || format!("{text:?} is no timespan; it is a whole number and one of s, m, h, d, w, M, y, as in 5m");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        'M' => 30 * 86_400,
        'y' => 365 * 86_400,
        _ => return Err(wrong()),
    };
    let digits = text.strip_suffix(unit).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let micros = digits.parse::<i64>().ok().and_then(|number| number.checked_mul(seconds * 1_000_000));
    match micros {
        Some(1..) if micros <= Some(MAX_SPAN_DAYS * DAY_MICROS) => micros.ok_or_else(wrong),
        _ => Err(format!("timespan {text:?} is not between a second and {MAX_SPAN_DAYS} days")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a few rules")]
fn count(rules: usize) -> f64 {
    rules as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lists, load};

    const BASE: &str = "title: a\nname: a\ndetection: {s: {x: 1}, condition: s}\n---\n\
        title: b\nid: b-id\nname: b\ndetection: {s: {x: 2}, condition: s}\n---\n";

    fn loaded(correlation: &str) -> crate::Loaded {
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        load(&[file("base.yml", BASE), file("rule.yml", correlation)], &Lists::shipped())
    }

    /// Loads a correlation with one mistake, and compares what is said about it.
    fn check(mistakes: &[(&str, usize, &str)]) {
        for (body, line, reason) in mistakes {
            let body = body.replace("; ", "\n  ");
            let loaded = loaded(&format!("title: t\nname: t\ncorrelation:\n  {body}\n"));
            assert_eq!(loaded.errors.len(), 1, "{body}: {:?}", loaded.errors);
            let error = &loaded.errors[0];
            assert!(error.reason.contains(reason), "{body}: {error}");
            assert_eq!((&*error.file, error.line), ("rule.yml", *line), "{body}: {error}");
            assert_eq!(loaded.rules.len(), 2, "{body}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_file_and_line() {
        check(&[
            ("type: event_counts; rules: [a]; timespan: 5m", 4, "unknown type \"event_counts\""),
            ("rules: [a]; timespan: 5m", 4, "no type"),
            ("type: event_count; timespan: 5m; condition: {gte: 2}", 4, "names no rules"),
            ("type: event_count; rules: []; timespan: 5m; condition: {gte: 2}", 5, "1 to 64 rules"),
            ("type: event_count; rules: [a, a]; timespan: 5m; condition: {gte: 2}", 5, "listed twice"),
            ("type: event_count; rules: [b, b-id]; timespan: 5m; condition: {gte: 2}", 5, "listed twice"),
            (
                "type: event_count; rules: [x]; timespan: 5m; condition: {gte: 2}",
                5,
                "no rule has the id or name",
            ),
            ("type: event_count; rules: [a]; condition: {gte: 2}", 4, "no timespan"),
            ("type: event_count; rules: [a]; timespan: 5 m; condition: {gte: 2}", 6, "is no timespan"),
            ("type: event_count; rules: [a]; timespan: -5m; condition: {gte: 2}", 6, "is no timespan"),
            ("type: event_count; rules: [a]; timespan: 5é; condition: {gte: 2}", 6, "is no timespan"),
            ("type: event_count; rules: [a]; timespan: 0s; condition: {gte: 2}", 6, "between a second and"),
            ("type: event_count; rules: [a]; timespan: 2y; condition: {gte: 2}", 6, "between a second and"),
            (
                "type: event_count; rules: [a]; timespan: 99999999999999999d; condition: {gte: 2}",
                6,
                "between",
            ),
            ("type: event_count; rules: [a]; timespan: 5m", 4, "no condition"),
            ("type: event_count; rules: [a]; timespan: 5m; condition: {}", 7, "compares to no number"),
            ("type: event_count; rules: [a]; timespan: 5m; condition: {gte: x}", 7, "compares to a number"),
            ("type: event_count; rules: [a]; timespan: 5m; condition: {gte: 1.5}", 7, "a whole number"),
            ("type: event_count; rules: [a]; timespan: 5m; condition: {gte: 50001}", 7, "0 to 50000"),
            (
                "type: event_count; rules: [a]; timespan: 5m; condition: {above: 2}",
                7,
                "unknown key \"above\"",
            ),
            ("type: event_count; rules: [a]; timespan: 5m; condition: a", 7, "must be a mapping"),
            (
                "type: event_count; rules: [a]; timespan: 5m; condition: {gte: 2, field: f}",
                7,
                "takes no field",
            ),
            ("type: value_count; rules: [a]; timespan: 5m; condition: {gte: 2}", 4, "needs a field"),
            (
                "type: value_sum; rules: [a]; timespan: 5m; condition: {gte: 2, field: [f, g]}",
                7,
                "1 to 1 fields",
            ),
            (
                "type: value_percentile; rules: [a]; timespan: 5m; condition: {gte: 2, field: f, percentile: 101}",
                7,
                "from 0 to 100",
            ),
        ]);
    }

    #[test]
    fn what_is_wrong_with_one_type_or_option_is_said_with_file_and_line() {
        let count = "type: event_count; rules: [a]; timespan: 5m; condition: {gte: 2}";
        check(&[
            ("type: temporal; rules: [a, b]; timespan: 5m; condition: a and x", 7, "names \"x\""),
            (
                "type: temporal_ordered; rules: [a, b]; timespan: 5m; condition: a or b",
                7,
                "joined by \"and\"",
            ),
            ("type: temporal_ordered; rules: [a, b]; timespan: 5m; condition: not a", 7, "without \"not\""),
            (
                "type: new_value; rules: [a]; timespan: 5m; condition: {field: f, gte: 2}",
                7,
                "nothing but a field",
            ),
            (
                "type: new_value; rules: [a]; timespan: 5m; condition: {field: f}; warm-up: soon",
                8,
                "is no timespan",
            ),
            (&format!("{count}; warm-up: 5m"), 8, "belongs to new_value"),
            (&format!("{count}; window: 5m"), 8, "unknown key \"window\""),
            (&format!("{count}; generate: 3"), 8, "true or false"),
            (&format!("{count}; group-by: [f, f]"), 8, "twice"),
            (&format!("{count}; group-by: [f..g]"), 8, "empty segment"),
            (&format!("{count}; aliases: [f]"), 8, "must be a mapping"),
            (&format!("{count}; aliases: {{f: {{b: g}}}}"), 8, "not among rules"),
            ("type: event_count; rules: [t]; timespan: 5m; condition: {gte: 2}", 1, "leads back to itself"),
        ]);
    }

    #[test]
    fn what_refers_to_a_refused_rule_is_refused_and_names_must_be_unique() {
        let correlation = |name: &str, rules: &str| {
            format!(
                "title: {name}\nname: {name}\ncorrelation: \
                 {{type: event_count, rules: [{rules}], timespan: 5m, condition: {{gte: 2}}}}\n---\n"
            )
        };
        let check = |text: &str, expect: &[&str]| {
            let loaded = loaded(text);
            let mut reasons: Vec<_> = loaded.errors.iter().map(ToString::to_string).collect();
            reasons.sort();
            assert_eq!(reasons.len(), expect.len(), "{reasons:?}");
            for (reason, expect) in reasons.iter().zip(expect) {
                assert!(reason.contains(expect), "{reasons:?}");
            }
        };
        check(
            &(correlation("one", "two") + &correlation("two", "three")),
            &["rule.yml:3: the correlation \"two\"", "rule.yml:7: no rule"],
        );
        check(
            &(correlation("one", "two") + &correlation("two", "three") + &correlation("three", "one")),
            &["leads back", "leads back", "leads back"],
        );
        check(&(correlation("a", "b") + &correlation("two", "a")), &["2 rules have the name \"a\""]);
        let chain: String = (0..17)
            .map(|n| {
                correlation(&format!("c{n}"), &if n == 0 { "a".to_owned() } else { format!("c{}", n - 1) })
            })
            .collect();
        check(&chain, &["a chain of more than 16"]);
    }

    #[test]
    fn timespans_have_all_units() {
        for (text, seconds) in [
            ("30s", 30),
            ("5m", 300),
            ("2h", 7_200),
            ("1d", 86_400),
            ("1w", 604_800),
            ("1M", 2_592_000),
            ("1y", 31_536_000),
        ] {
            assert_eq!(micros(text), Ok(seconds * 1_000_000), "{text}");
        }
    }
}
