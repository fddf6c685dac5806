//! Pipelines out of YAML. What is not understood is refused with its line.

use watchbell_event::yaml::{Entry, Node, Value};

use super::conditions::{Conditions, FieldCondition, Fields, ItemCondition, Relation, RuleCondition};
use super::replace::{Pattern, Replacement};
use super::{Names, Pipeline, Step, Transformation};
use crate::formula::{Check, Field, Formula};
use crate::problems::Problems;
use crate::rule::LogSource;
use crate::sigma::condition::Selections;
use crate::sigma::detection::Selection;

/// Most steps of one pipeline.
const MAX_STEPS: usize = 5_000;
/// What a pipeline may say besides what is applied here.
const ATTRIBUTES: [&str; 9] = [
    "name",
    "priority",
    "vars",
    "transformations",
    "description",
    "author",
    "id",
    "allowed_backends",
    "date",
];

pub(super) fn pipeline(document: &Node, problems: &mut Problems<'_>) -> Option<Pipeline> {
    let before = problems.count();
    for entry in document.entries().unwrap_or_default() {
        let what = match entry.key.as_str() {
            "postprocessing" | "finalizers" => "change queries of other systems, and there are none here",
            key if ATTRIBUTES.contains(&key) => continue,
            _ => "is no attribute of a pipeline",
        };
        problems.add(entry.line, format!("{:?} {what}", entry.key));
    }
    let priority = document.get("priority").map_or(Some(0), |node| match node.value {
        Value::Integer(priority, _) => Some(priority),
        _ => None,
    });
    if priority.is_none() {
        problems.add(document.line, "priority must be a whole number");
    }
    let listed = document.get("transformations").and_then(Node::items).unwrap_or_default();
    if listed.len() > MAX_STEPS {
        problems.add(document.line, format!("the pipeline has more than {MAX_STEPS} transformations"));
    }
    let steps = listed.iter().take(MAX_STEPS).filter_map(|node| {
        let read = step(node);
        read.map_err(|(line, reason)| problems.add(line, reason)).ok()
    });
    let steps: Vec<_> = steps.collect();
    let variables = document.get("vars").map(mapping).unwrap_or(Ok(Vec::new()));
    let variables = variables.map_err(|(line, reason)| problems.add(line, reason)).ok();
    if problems.count() > before {
        return None;
    }
    let name = document.get("name").and_then(Node::scalar_text).unwrap_or_else(|| problems.file().to_owned());
    Some(Pipeline { name, priority: priority?, variables: variables?, steps })
}

/// A value, or what is wrong in which line.
type Read<T> = Result<T, (usize, String)>;

fn step(node: &Node) -> Read<Step> {
    let kind = required(node, "type")?;
    let mut known = vec!["id", "type"];
    let transformation = transformation(node, &kind, &mut known)?;
    let step = Step {
        id: node.get("id").and_then(Node::scalar_text),
        transformation,
        of_rule: conditions(node, "rule", rule_condition, &mut known)?,
        of_item: conditions(node, "detection_item", item_condition, &mut known)?,
        of_field: conditions(node, "field_name", field_condition, &mut known)?,
    };
    let unknown =
        node.entries().unwrap_or_default().iter().find(|entry| !known.contains(&entry.key.as_str()));
    match unknown {
        Some(entry) => Err((entry.line, format!("unknown key {:?} of transformation {kind:?}", entry.key))),
        None => Ok(step),
    }
}

fn transformation(node: &Node, kind: &str, known: &mut Vec<&'static str>) -> Read<Transformation> {
    let mut text = |key: &'static str| {
        known.push(key);
        required(node, key)
    };
    Ok(match kind {
        "field_name_prefix" => Transformation::AddPrefix(text("prefix")?),
        "field_name_suffix" => Transformation::AddSuffix(text("suffix")?),
        "rule_failure" => Transformation::FailRule(text("message")?),
        "detection_item_failure" => Transformation::FailItem(text("message")?),
        "drop_detection_item" => Transformation::DropItem,
        "convert_type" => match text("target_type")?.as_str() {
            "str" => Transformation::ToText,
            "num" => Transformation::ToNumber,
            other => return Err((node.line, format!("unknown target_type {other:?}; known: str, num"))),
        },
        "replace_string" => {
            let (regex, replacement) = (text("regex")?, text("replacement")?);
            known.extend(["skip_special", "interpret_special"]);
            let replacement = Replacement::new(&regex, &replacement, flag(node, "skip_special")?);
            Transformation::ReplaceString(replacement.map_err(|reason| (node.line, reason))?)
        }
        "field_name_mapping" | "field_name_prefix_mapping" | "map_string" => {
            known.push("mapping");
            let mapping = mapping(node.get("mapping").ok_or((node.line, "mapping is missing".to_owned()))?)?;
            match kind {
                "field_name_mapping" => Transformation::MapFields(mapping),
                "field_name_prefix_mapping" => Transformation::MapPrefixes(mapping),
                _ => Transformation::MapString(mapping),
            }
        }
        "value_placeholders" | "wildcard_placeholders" => {
            known.extend(["include", "exclude"]);
            let names = match (node.get("include"), node.get("exclude")) {
                (None, None) => Names::All,
                (Some(names), None) => Names::Only(texts(names)?),
                (None, Some(names)) => Names::AllBut(texts(names)?),
                _ => return Err((node.line, "include and exclude cannot both be given".to_owned())),
            };
            let values = kind == "value_placeholders";
            if values {
                Transformation::ValuePlaceholders(names)
            } else {
                Transformation::WildcardPlaceholders(names)
            }
        }
        "set_value" => {
            known.extend(["value", "force_type"]);
            set_value(node)?
        }
        "change_logsource" => {
            known.extend(["category", "product", "service"]);
            Transformation::ChangeLogSource(log_source(node))
        }
        "add_condition" => {
            known.extend(["conditions", "negated", "template", "name"]);
            add_condition(node)?
        }
        _ => return Err((node.line, format!("transformation {kind:?} is unknown or has no meaning here"))),
    })
}

fn set_value(node: &Node) -> Read<Transformation> {
    let mut value = node.get("value").ok_or((node.line, "value is missing".to_owned()))?.clone();
    match node.get("force_type").and_then(Node::scalar_text).as_deref() {
        None | Some("num") => {}
        Some("str") => {
            value.value = value.scalar_text().map_or(Value::Null, Value::String);
        }
        Some(other) => return Err((node.line, format!("unknown force_type {other:?}; known: str, num"))),
    }
    Ok(Transformation::SetValue(value))
}

fn add_condition(node: &Node) -> Read<Transformation> {
    let conditions = node.get("conditions").ok_or((node.line, "conditions are missing".to_owned()))?;
    let mut problems = Problems::new("");
    let selection = Selection::read(conditions, conditions.line, &mut problems);
    match (selection, problems.into_errors().into_iter().next()) {
        (Some(selection), None) => Ok(Transformation::AddCondition {
            selection,
            negated: flag(node, "negated")?,
            template: flag(node, "template")?,
            line: node.line,
        }),
        (_, error) => Err(error.map_or((node.line, String::new()), |error| (error.line, error.reason))),
    }
}

/// Reads the conditions on one kind of thing, and how they are joined.
fn conditions<C>(
    node: &Node,
    kind: &'static str,
    read: fn(&Node) -> Read<C>,
    known: &mut Vec<&'static str>,
) -> Read<Conditions<C>> {
    let keys: [&'static str; 4] = match kind {
        "rule" => ["rule_conditions", "rule_cond_op", "rule_cond_not", "rule_cond_expr"],
        "detection_item" => [
            "detection_item_conditions",
            "detection_item_cond_op",
            "detection_item_cond_not",
            "detection_item_cond_expr",
        ],
        _ => ["field_name_conditions", "field_name_cond_op", "field_name_cond_not", "field_name_cond_expr"],
    };
    known.extend(keys);
    let [listed, operator, negated, expression] = keys;
    let mut conditions = Vec::new();
    match node.get(listed).map(|node| (node, &node.value)) {
        None => {}
        Some((_, Value::Sequence(items))) => {
            for (number, item) in items.iter().enumerate() {
                conditions.push((format!("c{number}"), read(item)?));
            }
        }
        Some((_, Value::Mapping(entries))) => {
            for Entry { key, value, .. } in entries {
                conditions.push((key.clone(), read(value)?));
            }
        }
        Some((node, _)) => return Err((node.line, format!("{listed} must be a list or a mapping"))),
    }
    let tests = conditions.iter().map(|(name, _)| (name.clone(), test(name)));
    let joined = match (node.get(expression), node.get(operator).and_then(Node::scalar_text).as_deref()) {
        (Some(node), None) => {
            let mut selections = Selections::default();
            tests.for_each(|(name, test)| selections.add(&name, Some(test)));
            selections
                .resolve(&node.scalar_text().unwrap_or_default())
                .map_err(|reason| (node.line, reason))?
        }
        (Some(node), Some(_)) => {
            return Err((node.line, format!("give only one of {operator}, {expression}")));
        }
        (None, None | Some("and")) => Formula::All(tests.map(|(_, test)| test).collect()),
        (None, Some("or")) => Formula::Any(tests.map(|(_, test)| test).collect()),
        (None, Some(other)) => {
            return Err((node.line, format!("unknown {operator} {other:?}; known: and, or")));
        }
    };
    let joined = if flag(node, negated)? { joined.negate() } else { joined };
    Ok(Conditions { conditions, joined })
}

fn test(name: &str) -> Formula {
    Formula::test(Field::Path(name.into()), Check::Exists)
}

fn rule_condition(node: &Node) -> Read<RuleCondition> {
    Ok(match required(node, "type")?.as_str() {
        "logsource" => RuleCondition::LogSource(log_source(node)),
        "contains_field" => RuleCondition::HasField(required(node, "field")?),
        "contains_detection_item" => {
            RuleCondition::HasItem(required(node, "field")?, required(node, "value")?)
        }
        "tag" => RuleCondition::Tag(required(node, "tag")?),
        "processing_item_applied" => RuleCondition::StepApplied(required(node, "processing_item_id")?),
        "is_sigma_rule" => RuleCondition::IsRule(true),
        "is_sigma_correlation_rule" => RuleCondition::IsRule(false),
        "rule_attribute" => RuleCondition::Attribute {
            name: required(node, "attribute")?,
            value: required(node, "value")?,
            holds: match node.get("op").and_then(Node::scalar_text).as_deref() {
                None | Some("eq") => Relation::Equal,
                Some("ne") => Relation::NotEqual,
                Some("in") => Relation::In,
                Some("not_in") => Relation::NotIn,
                Some(other) => {
                    return Err((node.line, format!("unknown op {other:?}; known: eq, ne, in, not_in")));
                }
            },
        },
        other => return Err((node.line, format!("condition {other:?} on a rule is unknown"))),
    })
}

fn item_condition(node: &Node) -> Read<ItemCondition> {
    let all = match node.get("cond").and_then(Node::scalar_text).as_deref() {
        None | Some("any") => false,
        Some("all") => true,
        Some(other) => return Err((node.line, format!("unknown cond {other:?}; known: any, all"))),
    };
    Ok(match required(node, "type")?.as_str() {
        "match_string" => {
            let pattern = Pattern::new(&required(node, "pattern")?).map_err(|reason| (node.line, reason))?;
            ItemCondition::MatchString { pattern, negated: flag(node, "negate")?, all }
        }
        "match_value" => ItemCondition::MatchValue { value: required(node, "value")?, all },
        "contains_wildcard" => ItemCondition::HasWildcard { all },
        "is_null" => ItemCondition::IsNull { all },
        "processing_item_applied" => ItemCondition::StepApplied(required(node, "processing_item_id")?),
        other => return Err((node.line, format!("condition {other:?} on a detection item is unknown"))),
    })
}

fn field_condition(node: &Node) -> Read<FieldCondition> {
    let fields = || {
        let names = texts(node.get("fields").ok_or((node.line, "fields are missing".to_owned()))?)?;
        match node.get("mode").and_then(Node::scalar_text).as_deref() {
            None | Some("plain") => Ok(Fields::Plain(names)),
            Some("re") => {
                let patterns: Result<_, _> = names.iter().map(|name| Pattern::new(name)).collect();
                Ok(Fields::Expressions(patterns.map_err(|reason| (node.line, reason))?))
            }
            Some(other) => Err((node.line, format!("unknown mode {other:?}; known: plain, re"))),
        }
    };
    Ok(match required(node, "type")?.as_str() {
        "include_fields" => FieldCondition::Include(fields()?),
        "exclude_fields" => FieldCondition::Exclude(fields()?),
        "processing_item_applied" => FieldCondition::StepApplied(required(node, "processing_item_id")?),
        other => return Err((node.line, format!("condition {other:?} on the name of a field is unknown"))),
    })
}

fn required(node: &Node, key: &str) -> Read<String> {
    let text = node.get(key).and_then(Node::scalar_text);
    text.ok_or_else(|| (node.line, format!("{key} is missing or is not text")))
}

fn flag(node: &Node, key: &str) -> Read<bool> {
    match node.get(key).map(|node| &node.value) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err((node.line, format!("{key} must be true or false"))),
    }
}

/// The texts of a list; one text alone is a list of one.
fn texts(node: &Node) -> Read<Vec<String>> {
    let items = node.items().unwrap_or(std::slice::from_ref(node));
    let text = |item: &Node| {
        item.scalar_text().ok_or_else(|| (item.line, format!("expected text, not {}", item.kind())))
    };
    items.iter().map(text).collect()
}

fn mapping(node: &Node) -> Read<Vec<(String, Vec<String>)>> {
    let Some(entries) = node.entries() else {
        return Err((node.line, format!("expected a mapping, not {}", node.kind())));
    };
    entries.iter().map(|entry| Ok((entry.key.clone(), texts(&entry.value)?))).collect()
}

fn log_source(node: &Node) -> LogSource {
    let part = |key| node.get(key).and_then(Node::scalar_text);
    LogSource { category: part("category"), product: part("product"), service: part("service") }
}
