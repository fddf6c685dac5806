//! What the steps of a pipeline change in a rule.

use std::cell::Cell;

use watchbell_event::yaml::{Node, Value};

use super::{Draft, MAX_VALUES, Names, Pipeline, Step, Transformation};
use crate::formula::MAX_FIELD_BYTES;
use crate::pattern::{self, Piece};
use crate::sigma::detection::{Detection, Item, Selection};
use crate::sigma::expand::substitute;

/// What became of one item.
enum Change {
    None,
    Dropped,
    To(Selection),
}

impl Change {
    fn count_values(&self, item: &Item) -> usize {
        match self {
            Self::None => item.values.len(),
            Self::Dropped => 0,
            Self::To(selection) => selection.count_values(),
        }
    }
}

type Changed<T> = Result<T, (usize, String)>;

pub(super) fn pipeline(pipeline: &Pipeline, draft: &mut Draft<'_>) -> Changed<()> {
    let mut applied: Vec<&str> = Vec::new();
    for step in &pipeline.steps {
        if !step.of_rule.hold(&|condition| condition.holds(draft, &applied)) {
            continue;
        }
        let was_applied = apply(pipeline, step, draft)?;
        applied.extend(step.id.as_deref().filter(|_| was_applied));
    }
    Ok(())
}

/// Makes one step; says whether it changed anything.
fn apply(pipeline: &Pipeline, step: &Step, draft: &mut Draft<'_>) -> Changed<bool> {
    match &step.transformation {
        Transformation::FailRule(message) => return Err((draft.document.line, message.clone())),
        Transformation::ChangeLogSource(source) => draft.log_source = source.clone(),
        Transformation::AddCondition { selection, negated, template, line } => {
            let mut selection = selection.clone();
            if *template {
                selection.visit_items(&mut |item| fill_template(item, draft));
            }
            let condition = if *negated { "not added" } else { "added" };
            draft.detections.push(Detection {
                selections: vec![("added".to_owned(), Some(selection))],
                conditions: vec![(*line, condition.to_owned())],
            });
        }
        _ => return change_items(pipeline, step, draft),
    }
    Ok(true)
}

fn fill_template(item: &mut Item, draft: &Draft<'_>) {
    let source = &draft.log_source;
    for value in &mut item.values {
        let Value::String(text) = &mut value.value else { continue };
        for (name, part) in
            [("category", &source.category), ("product", &source.product), ("service", &source.service)]
        {
            let part = part.as_deref().unwrap_or("None");
            *text = text.replace(&format!("${{{name}}}"), part).replace(&format!("${name}"), part);
        }
    }
}

fn change_items(pipeline: &Pipeline, step: &Step, draft: &mut Draft<'_>) -> Changed<bool> {
    let changes = Cell::new(0);
    let values = Cell::new(0);
    for detection in &mut draft.detections {
        for (_, selection) in &mut detection.selections {
            if let Some(kept) = selection.take() {
                let change = |item: &Item| {
                    let change = change(pipeline, step, item)?;
                    changes.set(changes.get() + usize::from(!matches!(change, Change::None)));
                    values.set(values.get() + change.count_values(item));
                    if values.get() > MAX_VALUES {
                        return Err((item.line, format!("the rule comes to more than {MAX_VALUES} values")));
                    }
                    Ok(change)
                };
                // A selection of which nothing is left selects everything.
                let kept = rewrite(kept, &change)?.unwrap_or(Selection::All(Vec::new()));
                *selection = Some(kept);
            }
        }
    }
    Ok(changes.get() > 0)
}

/// The selection with every item changed; none if all of it was dropped.
fn rewrite(selection: Selection, change: &impl Fn(&Item) -> Changed<Change>) -> Changed<Option<Selection>> {
    let rewrite_all = |parts: Vec<Selection>| -> Changed<Vec<Selection>> {
        let parts = parts.into_iter().map(|part| rewrite(part, change)).filter_map(Result::transpose);
        parts.collect()
    };
    Ok(match selection {
        // Names within a bound group are those of an array's members, which no mapping is about.
        bound @ Selection::Bound(_) => Some(bound),
        Selection::Item(item) => match change(&item)? {
            Change::None => Some(Selection::Item(item)),
            Change::Dropped => None,
            Change::To(changed) => Some(changed),
        },
        Selection::All(parts) => {
            Some(rewrite_all(parts)?).filter(|parts| !parts.is_empty()).map(Selection::All)
        }
        Selection::Any(parts) => {
            Some(rewrite_all(parts)?).filter(|parts| !parts.is_empty()).map(Selection::Any)
        }
    })
}

fn change(pipeline: &Pipeline, step: &Step, item: &Item) -> Changed<Change> {
    if !step.of_item.hold(&|condition| condition.holds(item)) {
        return Ok(Change::None);
    }
    let of_field = |field: &str| step.of_field.hold(&|condition| condition.holds(field, item));
    let fields = |map: &dyn Fn(&str) -> Option<Vec<String>>| {
        map_fields(step, item, &|field| map(field).filter(|_| of_field(field)))
    };
    match &step.transformation {
        Transformation::MapFields(mapping) => fields(&|field| {
            // Keywords have no field; a mapping of null is for them.
            let key = if field.is_empty() { "null" } else { field };
            mapping.iter().find(|(from, _)| from == key).map(|(_, to)| to.clone())
        }),
        Transformation::MapPrefixes(mapping) => fields(&|field| {
            let (rest, to) =
                mapping.iter().find_map(|(from, to)| Some((field.strip_prefix(from.as_str())?, to)))?;
            Some(to.iter().map(|prefix| format!("{prefix}{rest}")).collect())
        }),
        Transformation::AddPrefix(prefix) => {
            fields(&|field| (!field.is_empty()).then(|| vec![format!("{prefix}{field}")]))
        }
        Transformation::AddSuffix(suffix) => {
            fields(&|field| (!field.is_empty()).then(|| vec![format!("{field}{suffix}")]))
        }
        _ if !of_field(&item.field) => Ok(Change::None),
        Transformation::DropItem => Ok(Change::Dropped),
        Transformation::FailItem(message) => Err((item.line, message.clone())),
        _ => change_values(pipeline, step, item),
    }
}

/// The item with its field, and the fields that it refers to, mapped.
fn map_fields(step: &Step, item: &Item, map: &impl Fn(&str) -> Option<Vec<String>>) -> Changed<Change> {
    let mut changed = item.clone();
    changed.applied.extend(step.id.clone());
    let refers = item.modifiers.iter().any(|modifier| modifier == "fieldref");
    if refers {
        let mapped = |value: &Node| match value.as_str().and_then(map) {
            Some(names) => names.into_iter().map(|name| text_node(value, name)).collect(),
            None => vec![value.clone()],
        };
        changed.values = item.values.iter().flat_map(mapped).collect();
    }
    let Some(names) = map(&item.field) else {
        let mapped = refers && changed.values != item.values;
        return Ok(if mapped { Change::To(Selection::Item(changed)) } else { Change::None });
    };
    if names.len().saturating_mul(changed.values.len()) > MAX_VALUES {
        return Err((item.line, format!("the rule comes to more than {MAX_VALUES} values")));
    }
    if names.iter().any(|name| name.len() > MAX_FIELD_BYTES) {
        return Err((item.line, format!("a field's name is longer than {MAX_FIELD_BYTES} bytes")));
    }
    if item.field.is_empty() && item.modifiers.is_empty() {
        // A keyword is found anywhere within a value.
        changed.modifiers.push("contains".to_owned());
    }
    let named = |field: String| Selection::Item(Item { field, ..changed.clone() });
    let mut parts: Vec<_> = names.into_iter().map(named).collect();
    Ok(Change::To(if parts.len() == 1 { parts.remove(0) } else { Selection::Any(parts) }))
}

fn change_values(pipeline: &Pipeline, step: &Step, item: &Item) -> Changed<Change> {
    let mut values = Vec::new();
    for value in &item.values {
        let told = |reason| (value.line, reason);
        values.extend(change_value(pipeline, &step.transformation, item, value).map_err(told)?);
        if values.len() > MAX_VALUES {
            return Err(told(format!("the rule comes to more than {MAX_VALUES} values")));
        }
    }
    if values == item.values {
        return Ok(Change::None);
    }
    let mut changed = Item { values, ..item.clone() };
    changed.applied.extend(step.id.clone());
    // Without a value left, none can match.
    let none_left = changed.values.is_empty();
    Ok(Change::To(if none_left { Selection::Any(Vec::new()) } else { Selection::Item(changed) }))
}

fn change_value(
    pipeline: &Pipeline,
    transformation: &Transformation,
    item: &Item,
    value: &Node,
) -> Result<Vec<Node>, String> {
    let is_expanded = item.modifiers.iter().any(|modifier| modifier == "expand");
    let text = value.as_str();
    let changed = match (transformation, text) {
        (Transformation::SetValue(other), _) => vec![Node { line: value.line, value: other.value.clone() }],
        (Transformation::ReplaceString(replacement), _) => match value.scalar_text() {
            Some(text) if !replacement.skip_special => vec![text_node(value, replacement.apply(&text)?)],
            Some(text) => vec![text_node(value, between_wildcards(&text, &|text| replacement.apply(text))?)],
            None => vec![value.clone()],
        },
        (Transformation::MapString(mapping), Some(text)) => {
            match mapping.iter().find(|(from, _)| from == text) {
                Some((_, to)) => to.iter().map(|to| text_node(value, to.clone())).collect(),
                None => vec![value.clone()],
            }
        }
        (Transformation::ToText, None) => match value.scalar_text() {
            Some(text) => vec![text_node(value, text)],
            None => vec![value.clone()],
        },
        (Transformation::ToNumber, Some(text)) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                vec![Node { line: value.line, value: Value::Float(number, text.to_owned()) }]
            }
            _ => return Err(format!("{text:?} is not a number")),
        },
        (Transformation::ValuePlaceholders(names), Some(text)) if is_expanded => {
            let variable = |name: &str| variable(pipeline, names, name);
            let texts = substitute(text, &mut |name| Ok(variable(name)), true)?;
            texts.into_iter().map(|text| text_node(value, text)).collect()
        }
        (Transformation::WildcardPlaceholders(names), Some(text)) if is_expanded => {
            let wildcard = |name: &str| names.has(name).then(|| vec!["*".to_owned()]);
            let texts = substitute(text, &mut |name| Ok(wildcard(name)), true)?;
            texts.into_iter().map(|text| text_node(value, text)).collect()
        }
        _ => vec![value.clone()],
    };
    Ok(changed)
}

/// The values of a variable; a percent sign in them is none of a placeholder.
fn variable(pipeline: &Pipeline, names: &Names, name: &str) -> Option<Vec<String>> {
    let (_, values) = pipeline.variables.iter().find(|(known, _)| known == name && names.has(name))?;
    Some(values.iter().map(|value| value.replace('%', "\\%")).collect())
}

/// The text with what stands between its wildcards changed.
fn between_wildcards(text: &str, change: &dyn Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let escaped = |text: String| text.replace('\\', "\\\\").replace('*', "\\*").replace('?', "\\?");
    let piece = |piece| match piece {
        Piece::Literal(text) => change(&text).map(escaped),
        Piece::AnyText => Ok("*".to_owned()),
        Piece::OneCharacter => Ok("?".to_owned()),
    };
    pattern::parse(text).into_iter().map(piece).collect()
}

fn text_node(like: &Node, text: String) -> Node {
    Node { line: like.line, value: Value::String(text) }
}
