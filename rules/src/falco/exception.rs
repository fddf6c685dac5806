//! Exceptions of a rule: named tuples of fields with the values for which the rule is not to match.

use watchbell_event::yaml::{Node, Value};

use super::condition::{self, Comparison, Expression, Operand, Operator};
use super::definition::{self, Problem};
use super::expand;

/// One exception.
#[derive(Clone, Debug)]
pub(super) struct Exception {
    name: String,
    /// The fields with how they are compared.
    fields: Vec<(String, Operator)>,
    /// `fields` is text and not a list: each value is a member of one list.
    single: bool,
    /// For each field, its values.
    values: Vec<Vec<Cell>>,
}

/// What one field is compared to.
#[derive(Clone, Debug)]
enum Cell {
    One(String),
    Several(Vec<String>),
}

/// Adds exceptions to those of a rule. One that is there already gets further values.
pub(super) fn append(exceptions: &mut Vec<Exception>, node: &Node) -> Result<(), Problem> {
    if node.value == Value::Null {
        return Ok(());
    }
    let Some(items) = node.items() else {
        return Err((node.line, format!("exceptions must be a list, not {}", node.kind())));
    };
    for item in items {
        let Some(name) = item.get("name") else {
            return Err((item.line, "an exception needs a name".to_owned()));
        };
        let name = definition::name(name)?;
        let named = |(line, reason): Problem| (line, format!("exception {name:?}: {reason}"));
        if let Some(known) = exceptions.iter_mut().find(|known| known.name == name) {
            if item.get("fields").is_some() || item.get("comps").is_some() {
                return Err(named((item.line, "only values can be appended".to_owned())));
            }
            let values = values(item, known.single, known.fields.len()).map_err(named)?;
            known.values.extend(values);
        } else {
            exceptions.push(read(&name, item).map_err(named)?);
        }
    }
    Ok(())
}

fn read(name: &str, item: &Node) -> Result<Exception, Problem> {
    let Some(node) = item.get("fields") else {
        return Err((item.line, "it has no fields".to_owned()));
    };
    let single = node.items().is_none();
    let names = one_or_several(node)?;
    let operators = match item.get("comps") {
        None => vec![if single { Operator::In } else { Operator::Equals }; names.len()],
        Some(comps) => {
            let operators: Result<Vec<_>, _> =
                one_or_several(comps)?.iter().map(|name| Operator::named(name)).collect();
            operators.map_err(|reason| (comps.line, reason))?
        }
    };
    if names.is_empty() || names.len() != operators.len() {
        return Err((item.line, "fields and comps must have one length, and not none".to_owned()));
    }
    if single && operators.iter().any(|operator| !operator.takes_list()) {
        return Err((item.line, "a single field is compared by in, pmatch or intersects".to_owned()));
    }
    let values = values(item, single, names.len())?;
    Ok(Exception {
        name: name.to_owned(),
        fields: names.into_iter().zip(operators).collect(),
        single,
        values,
    })
}

fn one_or_several(node: &Node) -> Result<Vec<String>, Problem> {
    match node.scalar_text() {
        Some(text) => Ok(vec![text]),
        None => definition::texts(node),
    }
}

fn values(item: &Node, single: bool, fields: usize) -> Result<Vec<Vec<Cell>>, Problem> {
    let Some(node) = item.get("values") else { return Ok(Vec::new()) };
    if single {
        // All values together are the list that the field is compared to.
        return Ok(vec![vec![Cell::Several(definition::texts(node)?)]]);
    }
    let Some(rows) = node.items() else {
        return Err((node.line, format!("values must be a list, not {}", node.kind())));
    };
    let row = |row: &Node| {
        let cells = row.items().filter(|cells| cells.len() == fields);
        let Some(cells) = cells else {
            return Err((row.line, format!("each entry of values must be a list of {fields}")));
        };
        cells.iter().map(cell).collect()
    };
    rows.iter().map(row).collect()
}

fn cell(node: &Node) -> Result<Cell, Problem> {
    match node.scalar_text() {
        Some(text) => Ok(Cell::One(text)),
        None => definition::texts(node).map(Cell::Several),
    }
}

impl Exception {
    /// What an event must satisfy to be excepted; nothing if there are no values.
    ///
    /// # Errors
    /// Why a field cannot be compared to its values.
    pub(super) fn expression(&self) -> Result<Option<Expression<'_>>, String> {
        let row = |cells: &Vec<Cell>| {
            let checks: Result<Vec<_>, String> = self
                .fields
                .iter()
                .zip(cells)
                .map(|((field, operator), cell)| check(field, *operator, cell))
                .collect();
            checks.map(Expression::All)
        };
        let rows: Result<Vec<_>, String> = self.values.iter().map(row).collect();
        let rows = rows.map_err(|reason| format!("exception {:?}: {reason}", self.name))?;
        Ok(if rows.is_empty() { None } else { Some(Expression::Any(rows)) })
    }
}

fn check<'a>(field: &'a str, operator: Operator, cell: &Cell) -> Result<Expression<'a>, String> {
    let (name, rest) = condition::field(field)?;
    if !rest.is_empty() {
        return Err(format!("{field:?} is not a field"));
    }
    let values = match cell {
        _ if operator == Operator::Exists => Vec::new(),
        Cell::Several(_) if !operator.takes_list() => {
            return Err(format!("{} compares {field} to one value, not to a list", operator.name()));
        }
        Cell::Several(texts) => texts.iter().map(|text| expand::operand(text)).collect(),
        Cell::One(text) if operator.takes_list() => listed(text),
        Cell::One(text) => vec![expand::operand(text)],
    };
    Ok(Expression::Check(Comparison { field: name, operator, values }))
}

/// One text where a list is expected: `(a, b)`, or one member.
fn listed(text: &str) -> Vec<Operand> {
    match text.trim().strip_prefix('(').and_then(|text| text.strip_suffix(')')) {
        Some(members) => members.split(',').map(|member| expand::operand(member.trim())).collect(),
        None => vec![expand::operand(text)],
    }
}
