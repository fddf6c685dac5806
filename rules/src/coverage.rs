//! Which tactics and techniques of MITRE ATT&CK rules are about, as their tags say.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::rule::Rule;

/// The tactics, in the order of the matrix.
pub const TACTICS: [&str; 14] = [
    "reconnaissance",
    "resource-development",
    "initial-access",
    "execution",
    "persistence",
    "privilege-escalation",
    "defense-evasion",
    "credential-access",
    "discovery",
    "lateral-movement",
    "collection",
    "command-and-control",
    "exfiltration",
    "impact",
];

/// Techniques that matter for Kubernetes, with the tactics they serve. Source: ATT&CK for Enterprise 17.
const TECHNIQUES: [(&str, &[&str]); 47] = [
    ("T1021", &["lateral-movement"]),
    ("T1036", &["defense-evasion"]),
    ("T1040", &["credential-access", "discovery"]),
    ("T1041", &["exfiltration"]),
    ("T1053", &["execution", "persistence", "privilege-escalation"]),
    ("T1059", &["execution"]),
    ("T1068", &["privilege-escalation"]),
    ("T1069", &["discovery"]),
    ("T1070", &["defense-evasion"]),
    ("T1078", &["initial-access", "persistence", "privilege-escalation", "defense-evasion"]),
    ("T1087", &["discovery"]),
    ("T1090", &["command-and-control"]),
    ("T1098", &["persistence", "privilege-escalation"]),
    ("T1105", &["command-and-control"]),
    ("T1110", &["credential-access"]),
    ("T1133", &["initial-access", "persistence"]),
    ("T1134", &["privilege-escalation", "defense-evasion"]),
    ("T1136", &["persistence"]),
    ("T1190", &["initial-access"]),
    ("T1213", &["collection"]),
    ("T1222", &["defense-evasion"]),
    ("T1485", &["impact"]),
    ("T1489", &["impact"]),
    ("T1496", &["impact"]),
    ("T1498", &["impact"]),
    ("T1499", &["impact"]),
    ("T1525", &["persistence"]),
    ("T1528", &["credential-access"]),
    ("T1530", &["collection"]),
    ("T1531", &["impact"]),
    ("T1543", &["persistence", "privilege-escalation"]),
    ("T1546", &["persistence", "privilege-escalation"]),
    ("T1548", &["privilege-escalation", "defense-evasion"]),
    ("T1550", &["defense-evasion", "lateral-movement"]),
    ("T1552", &["credential-access"]),
    ("T1557", &["credential-access", "collection"]),
    ("T1562", &["defense-evasion"]),
    ("T1565", &["impact"]),
    ("T1572", &["command-and-control"]),
    ("T1573", &["command-and-control"]),
    ("T1578", &["defense-evasion"]),
    ("T1595", &["reconnaissance"]),
    ("T1609", &["execution"]),
    ("T1610", &["execution", "defense-evasion"]),
    ("T1611", &["privilege-escalation"]),
    ("T1612", &["defense-evasion"]),
    ("T1613", &["discovery"]),
];

/// One technique in one column of the matrix, with the rules for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// One of [`TACTICS`]; empty if neither the rules nor the technique say.
    pub tactic: &'static str,
    /// Such as `T1552.007`; empty for rules that name a tactic only.
    pub technique: String,
    /// The titles of the rules.
    pub rules: Vec<Arc<str>>,
}

/// The cells that have rules, in the order of the matrix.
#[must_use]
pub fn coverage(rules: &[Rule]) -> Vec<Cell> {
    let mut cells: BTreeMap<(usize, String), Vec<Arc<str>>> = BTreeMap::new();
    for rule in rules {
        let tags = rule.tags.iter().filter_map(|tag| tag.strip_prefix("attack."));
        let (techniques, others): (Vec<_>, Vec<_>) = tags.partition(|tag| is_technique(tag));
        let tactics: Vec<_> = others.iter().filter_map(|tag| column(&tag.replace('_', "-"))).collect();
        for technique in &techniques {
            for column in columns(technique, &tactics) {
                cells.entry((column, technique.to_uppercase())).or_default().push(rule.title.clone());
            }
        }
        if techniques.is_empty() {
            for column in tactics {
                cells.entry((column, String::new())).or_default().push(rule.title.clone());
            }
        }
    }
    let cell = |((column, technique), rules): ((usize, String), Vec<Arc<str>>)| Cell {
        tactic: TACTICS.get(column).copied().unwrap_or_default(),
        technique,
        rules,
    };
    cells.into_iter().map(cell).collect()
}

fn is_technique(tag: &str) -> bool {
    tag.strip_prefix('t')
        .is_some_and(|number| number.starts_with(|character: char| character.is_ascii_digit()))
}

fn column(tactic: &str) -> Option<usize> {
    TACTICS.iter().position(|known| *known == tactic)
}

/// The columns of a technique: those of the rule's tactics that it serves; all it serves if the rule names none of
/// them; the rule's if the technique is not known here.
fn columns(technique: &str, tactics: &[usize]) -> Vec<usize> {
    let base = technique.split('.').next().unwrap_or_default().to_uppercase();
    let known = TECHNIQUES.iter().find(|(name, _)| *name == base);
    let serves: Vec<_> = known
        .map(|(_, tactics)| tactics.iter().filter_map(|tactic| column(tactic)).collect())
        .unwrap_or_default();
    let both: Vec<_> = tactics.iter().copied().filter(|column| serves.contains(column)).collect();
    match (both.is_empty(), serves.is_empty(), tactics.is_empty()) {
        (false, ..) => both,
        (true, false, _) => serves,
        (true, true, false) => tactics.to_vec(),
        (true, true, true) => vec![TACTICS.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lists, load};

    #[test]
    fn techniques_stand_in_the_columns_that_rule_and_matrix_agree_on() {
        let rules = [
            ("a", "[attack.persistence, attack.execution, attack.t1098.006, attack.t1609]"),
            ("b", "[attack.t1078]"),
            ("c", "[attack.impact, attack.t9999]"),
            ("d", "[attack.t9999]"),
            ("e", "[attack.discovery, other]"),
            ("f", "[attack.persistence, attack.t1098.006]"),
        ];
        let text: String = rules
            .iter()
            .map(|(title, tags)| {
                format!("---\ntitle: {title}\ntags: {tags}\ndetection: {{s: {{verb: get}}, condition: s}}\n")
            })
            .collect();
        let loaded = load(&[("r.yml".to_owned(), text)], &Lists::shipped());
        let cells: Vec<_> = coverage(&loaded.rules)
            .into_iter()
            .map(|cell| format!("{} {} {}", cell.tactic, cell.technique, cell.rules.join("+")))
            .collect();
        assert_eq!(
            cells,
            [
                "initial-access T1078 b",
                "execution T1609 a",
                "persistence T1078 b",
                "persistence T1098.006 a+f",
                "privilege-escalation T1078 b",
                "defense-evasion T1078 b",
                "discovery  e",
                "impact T9999 c",
                " T9999 d",
            ]
        );
    }
}
