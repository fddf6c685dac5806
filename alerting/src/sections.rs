//! Why an alert was raised and what to do, in lines for people.

use watchbell_event::{Counted, Explanation, MetCondition};

use crate::notify::time;

/// A caption and the lines below it, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What the lines are about.
    pub caption: &'static str,
    /// One or several lines.
    pub lines: Vec<String>,
}

/// What a rule found and says to do, what matters first at the top: what matched, what was counted, next steps, why it
/// matters, ATT&CK, and more about the event. The lines are as long as the explanation's texts, which are bounded.
#[must_use]
pub fn sections(explanation: &Explanation, tags: &[String]) -> Vec<Section> {
    let mut matched: Vec<String> = explanation.matched.iter().map(condition).collect();
    if explanation.matched_beyond > 0 {
        matched.push(format!("+{} more conditions", explanation.matched_beyond));
    }
    let counted = explanation.correlation.as_ref().map(counted_lines).unwrap_or_default();
    let (attack, others): (Vec<&str>, Vec<&str>) =
        tags.iter().map(String::as_str).partition(|tag| tag.starts_with("attack."));
    let attack: Vec<String> = attack.into_iter().map(technique).collect();
    let context = explanation.context.iter().map(|(name, value)| format!("{name}: {value}"));
    let sections = [
        ("What matched", matched),
        ("What was counted", counted),
        ("What to do", explanation.next_steps.clone()),
        ("Why it matters", vec![explanation.description.clone()]),
        ("May be harmless", explanation.false_positives.clone()),
        ("ATT&CK", vec![attack.join(", ")]),
        ("Tags", vec![others.join(", ")]),
        ("More", context.collect()),
    ];
    let sections = sections.into_iter().map(|(caption, lines)| Section { caption, lines });
    sections.filter(|section| section.lines.iter().any(|line| !line.is_empty())).collect()
}

/// `attack.t1552.007` as `T1552.007`, `attack.credential-access` as `credential-access`.
fn technique(tag: &str) -> String {
    let name = tag.trim_start_matches("attack.");
    let is_number =
        name.strip_prefix('t').is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()));
    if is_number { name.to_uppercase() } else { name.to_owned() }
}

/// `verb: list`, and what was asked of it where the value alone does not say so.
fn condition(met: &MetCondition) -> String {
    let MetCondition { field, test, values } = met;
    match values.as_slice() {
        [] => format!("{field} {test}"),
        [value] if value.is_empty() => format!("{field}: \"\" ({test})"),
        [value] if test.eq_ignore_ascii_case(&format!("is {value:?}")) => format!("{field}: {value}"),
        values => format!("{field}: {} ({test})", values.join(", ")),
    }
}

fn counted_lines(counted: &Counted) -> Vec<String> {
    let Counted { what, reached, condition, timespan, .. } = counted;
    let (start, end) = (time(counted.window_start), time(counted.window_end));
    let mut lines = vec![
        format!("{reached} {what} (the rule asks for {condition}) within {timespan}"),
        format!("window: {start} to {end}"),
    ];
    if !counted.group.is_empty() {
        let group = counted.group.iter().map(|(name, value)| format!("{name} {value}"));
        lines.push(format!("for: {}", group.collect::<Vec<_>>().join(", ")));
    }
    lines.extend(counted.rules.iter().map(|rule| format!("of rule: {} ({})", rule.title, rule.id)));
    lines
}

#[cfg(test)]
mod tests {
    use watchbell_event::CountedRule;

    use super::*;
    use crate::testing::{at, notice};

    #[test]
    fn conditions_are_short_where_the_value_says_it_all() {
        let check = |test: &str, values: &[&str], expect: &str| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            let met = MetCondition { field: "verb".to_owned(), test: test.to_owned(), values };
            assert_eq!(condition(&met), expect);
        };
        check("is \"list\"", &["LIST"], "verb: LIST");
        check("starts with \"li\"", &["list"], "verb: list (starts with \"li\")");
        check("is \"a\"", &[], "verb is \"a\"");
        check("is \"\"", &[""], "verb: \"\" (is \"\")");
        check("is none of 3 exceptions", &["a", "b"], "verb: a, b (is none of 3 exceptions)");
    }

    #[test]
    fn sections_tell_what_matched_what_was_counted_and_what_to_do() {
        let mut alert = notice(1).alert;
        alert.tags = ["attack.t1552.007", "attack.credential-access", "cis"].map(str::to_owned).to_vec();
        alert.explanation.next_steps = vec!["Rotate it.".to_owned()];
        alert.explanation.matched_beyond = 2;
        alert.explanation.correlation = Some(Counted {
            rules: vec![CountedRule { id: "r1".to_owned(), title: "Secret read".to_owned() }],
            what: "events".to_owned(),
            reached: "12".to_owned(),
            condition: ">= 10".to_owned(),
            group: [("user.username".to_owned(), "eve".to_owned())].into(),
            timespan: "5m".to_owned(),
            window_start: at(0),
            window_end: at(300),
        });
        let sections = sections(&alert.explanation, &alert.tags);
        let list = |caption, lines: &[&str]| Section {
            caption,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        for expect in [
            list("What matched", &["+2 more conditions"]),
            list(
                "What was counted",
                &[
                    "12 events (the rule asks for >= 10) within 5m",
                    "window: 2026-02-02 02:40:00 UTC to 2026-02-02 02:45:00 UTC",
                    "for: user.username eve",
                    "of rule: Secret read (r1)",
                ],
            ),
            list("What to do", &["Rotate it."]),
            list("ATT&CK", &["T1552.007, credential-access"]),
            list("Tags", &["cis"]),
        ] {
            assert!(sections.contains(&expect), "{expect:?}\n{sections:?}");
        }
    }
}
