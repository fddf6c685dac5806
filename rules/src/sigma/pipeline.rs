//! Processing pipelines, in the YAML form of pySigma: what they change in a rule before it is compiled.
//!
//! ```yaml
//! name: Our field names
//! priority: 10
//! transformations:
//!   - id: names
//!     type: field_name_mapping
//!     mapping: {apiGroup: objectRef.apiGroup}
//!     rule_conditions:
//!       - {type: logsource, product: kubernetes}
//! ```

mod apply;
mod conditions;
mod read;
mod replace;

use watchbell_event::yaml::{self, Node};

use self::conditions::{Conditions, FieldCondition, ItemCondition, RuleCondition};
use self::replace::Replacement;
use super::detection::{Detection, Selection};
use crate::problems::Problems;
use crate::rule::LogSource;

/// Most pipelines in one set.
pub(crate) const MAX_PIPELINES: usize = 1_000;
/// Most values that one rule may grow to.
pub(crate) const MAX_VALUES: usize = 100_000;

/// Maps the field names that public rules for Kubernetes use onto audit events.
const KUBERNETES: &str = include_str!("../pipelines/kubernetes.yml");
/// Tells the lines that a rule is about from others, and maps the names of web server rules onto log documents.
const LOGS: &str = include_str!("../pipelines/logs.yml");

/// A pipeline.
#[derive(Debug)]
pub(crate) struct Pipeline {
    name: String,
    /// Pipelines are applied from the lowest to the highest.
    priority: i64,
    /// What placeholders stand for.
    variables: Vec<(String, Vec<String>)>,
    steps: Vec<Step>,
}

/// One transformation, and when it is made.
#[derive(Debug)]
struct Step {
    id: Option<String>,
    transformation: Transformation,
    of_rule: Conditions<RuleCondition>,
    of_item: Conditions<ItemCondition>,
    of_field: Conditions<FieldCondition>,
}

/// What is changed.
#[derive(Debug)]
enum Transformation {
    /// A field becomes one or several, any of which may match.
    MapFields(Vec<(String, Vec<String>)>),
    /// The beginning of a field's name.
    MapPrefixes(Vec<(String, Vec<String>)>),
    AddPrefix(String),
    AddSuffix(String),
    DropItem,
    /// A condition that must hold, too, or (negated) must not hold.
    AddCondition {
        selection: Selection,
        negated: bool,
        template: bool,
        line: usize,
    },
    ChangeLogSource(LogSource),
    ReplaceString(Replacement),
    ValuePlaceholders(Names),
    WildcardPlaceholders(Names),
    MapString(Vec<(String, Vec<String>)>),
    SetValue(Node),
    /// To text, or to a number where the value is one.
    ToText,
    ToNumber,
    FailRule(String),
    FailItem(String),
}

/// Which placeholders a step replaces.
#[derive(Debug)]
enum Names {
    All,
    Only(Vec<String>),
    AllBut(Vec<String>),
}

impl Names {
    fn has(&self, name: &str) -> bool {
        let is_in = |names: &[String]| names.iter().any(|known| known == name);
        match self {
            Self::All => true,
            Self::Only(names) => is_in(names),
            Self::AllBut(names) => !is_in(names),
        }
    }
}

/// What pipelines may change in a rule.
pub(super) struct Draft<'a> {
    /// The rule's document, for its attributes.
    pub(super) document: &'a Node,
    pub(super) log_source: LogSource,
    /// The rule's own detection, those of its filters, and those that pipelines add. Each must hold.
    pub(super) detections: Vec<Detection>,
}

impl Pipeline {
    /// Whether a document is a pipeline.
    pub(crate) fn is_in(document: &Node) -> bool {
        document.get("transformations").is_some() && document.get("detection").is_none()
    }

    /// Reads a pipeline. What is wrong goes to `problems`, and then there is none.
    pub(crate) fn read(document: &Node, problems: &mut Problems<'_>) -> Option<Self> {
        read::pipeline(document, problems)
    }

    /// The pipelines that are always applied, after all others.
    pub(crate) fn built_in() -> Vec<Self> {
        let files = [("kubernetes.yml", KUBERNETES), ("logs.yml", LOGS)];
        let read = |(file, text): (&str, &str)| {
            let mut problems = Problems::new(file);
            let documents = yaml::parse(text).unwrap_or_default();
            documents.iter().filter_map(|document| Self::read(document, &mut problems)).collect::<Vec<_>>()
        };
        files.into_iter().flat_map(read).collect()
    }

    /// Puts pipelines into the order in which they are applied.
    pub(crate) fn sort(pipelines: &mut [Self]) {
        pipelines.sort_by_key(|pipeline| pipeline.priority);
    }

    /// Changes a rule.
    ///
    /// # Errors
    /// Why the pipeline refuses the rule, with the line that it is about.
    pub(super) fn apply(&self, draft: &mut Draft<'_>) -> Result<(), (usize, String)> {
        apply::pipeline(self, draft)
            .map_err(|(line, reason)| (line, format!("pipeline {:?}: {reason}", self.name)))
    }
}
