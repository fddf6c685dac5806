//! The key of a detection item: a field's name and the modifiers behind it.

use super::encode::Encoding;
use crate::expression::Flags;
use crate::formula::{Field, ITSELF, Order};
use crate::moment::Unit;

/// A key, understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    /// Which values are looked at.
    pub(super) field: Field,
    /// How they are compared.
    pub(super) operator: Operator,
    /// Upper and lower case differ.
    pub(super) cased: bool,
    /// Each of the values must match, not just one.
    pub(super) all: bool,
    /// None of the values may match.
    pub(super) negated: bool,
    /// How values are rewritten before they are compared, first to last.
    pub(super) encodings: Vec<Encoding>,
    /// Values are names of fields, whose values are compared.
    pub(super) reference: bool,
    /// `%NAME%` in a value stands for the values of a list.
    pub(super) expand: bool,
}

/// How a field is compared to the values of its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// The whole text.
    Equals,
    /// Text within it.
    Contains,
    /// Its beginning.
    StartsWith,
    /// Its end.
    EndsWith,
    /// A regular expression within it.
    Expression(Flags),
    /// An address in a block.
    Network,
    /// Whether the field is there.
    Exists,
    /// A number.
    Compare(Order),
    /// A part of a moment.
    Time(Unit),
}

impl Operator {
    /// The modifier that asks for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Equals => "equals",
            Self::Contains => "contains",
            Self::StartsWith => "startswith",
            Self::EndsWith => "endswith",
            Self::Expression(_) => "re",
            Self::Network => "cidr",
            Self::Exists => "exists",
            Self::Time(unit) => unit.name(),
            Self::Compare(Order::Less) => "lt",
            Self::Compare(Order::LessOrEqual) => "lte",
            Self::Compare(Order::Greater) => "gt",
            Self::Compare(Order::GreaterOrEqual) => "gte",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "contains" => Self::Contains,
            "startswith" => Self::StartsWith,
            "endswith" => Self::EndsWith,
            "re" => Self::Expression(Flags::default()),
            "cidr" => Self::Network,
            "exists" => Self::Exists,
            "lt" => Self::Compare(Order::Less),
            "lte" => Self::Compare(Order::LessOrEqual),
            "gt" => Self::Compare(Order::Greater),
            "gte" => Self::Compare(Order::GreaterOrEqual),
            _ => return Unit::by_name(name).map(Self::Time),
        })
    }

    /// Whether it compares text in a way in which case can matter.
    fn compares_text(self) -> bool {
        matches!(self, Self::Equals | Self::Contains | Self::StartsWith | Self::EndsWith)
    }
}

/// The field of a name; without a name, every value of the event. Within conditions on members of an array, `.`
/// is the member itself.
///
/// # Errors
/// Why no event can have a field of this name.
pub(super) fn field(name: &str, in_member: bool) -> Result<Field, String> {
    match name {
        "" => Ok(Field::Anywhere),
        ITSELF if in_member => Ok(Field::itself()),
        name => Field::path(name),
    }
}

impl Key {
    /// Reads the modifiers behind the name of a field.
    ///
    /// # Errors
    /// The modifier that is unknown or cannot stand with another one.
    pub(super) fn read(field: Field, modifiers: &[String]) -> Result<Self, String> {
        let mut key = Self {
            field,
            operator: Operator::Equals,
            cased: false,
            all: false,
            negated: false,
            encodings: Vec::new(),
            reference: false,
            expand: false,
        };
        for modifier in modifiers {
            key.apply(modifier)?;
        }
        key.check()?;
        Ok(key)
    }

    fn apply(&mut self, modifier: &str) -> Result<(), String> {
        if let Operator::Expression(flags) = &mut self.operator {
            match modifier {
                "i" | "ignorecase" => return set(&mut flags.ignore_case, modifier),
                "m" | "multiline" => return set(&mut flags.multi_line, modifier),
                "s" | "dotall" => return set(&mut flags.dot_all, modifier),
                _ => {}
            }
        }
        match modifier {
            "all" => return set(&mut self.all, modifier),
            "cased" => return set(&mut self.cased, modifier),
            "neq" => return set(&mut self.negated, modifier),
            "expand" => return set(&mut self.expand, modifier),
            "fieldref" => return set(&mut self.reference, modifier),
            "i" | "m" | "s" | "ignorecase" | "multiline" | "dotall" => {
                return Err(format!("modifier {modifier:?} can only follow \"re\""));
            }
            _ => {}
        }
        if let Some(encoding) = Encoding::by_name(modifier) {
            return self.encode(encoding, modifier);
        }
        let Some(operator) = Operator::by_name(modifier) else {
            return Err(format!("modifier {modifier:?} is unknown"));
        };
        if self.operator != Operator::Equals {
            let name = self.operator.name();
            return Err(format!("modifiers {name:?} and {modifier:?} cannot be combined"));
        }
        self.operator = operator;
        Ok(())
    }

    /// The wildcards that `contains` and its kin put around a value cannot be encoded, so they come last;
    /// dashes are not moved by them.
    fn encode(&mut self, encoding: Encoding, modifier: &str) -> Result<(), String> {
        if encoding != Encoding::Dashes && self.operator != Operator::Equals {
            return Err(format!("modifier {modifier:?} must stand before {:?}", self.operator.name()));
        }
        // Dashes are those of the text as it is written, and once they were exchanged, nothing is left to do.
        if encoding == Encoding::Dashes && !self.encodings.is_empty() {
            return Err(format!("modifier {modifier:?} must stand before other encodings, and once"));
        }
        self.encodings.push(encoding);
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let name = self.operator.name();
        if self.cased && !self.operator.compares_text() {
            return Err(format!("modifiers {name:?} and \"cased\" cannot be combined"));
        }
        if self.operator == Operator::Exists && (self.all || self.negated) {
            return Err("modifier \"exists\" stands alone; write true or false as its value".to_owned());
        }
        if self.operator == Operator::Exists && self.field == Field::Anywhere {
            return Err("modifier \"exists\" needs a field".to_owned());
        }
        if !self.operator.compares_text() && !self.encodings.is_empty() {
            return Err(format!("modifier {name:?} does not compare text, so its values cannot be encoded"));
        }
        if self.reference && !self.operator.compares_text() {
            return Err(format!("modifiers {name:?} and \"fieldref\" cannot be combined"));
        }
        if self.reference && (!self.encodings.is_empty() || self.expand) {
            return Err("modifier \"fieldref\" takes the names of fields as they are".to_owned());
        }
        if self.reference && self.field == Field::Anywhere {
            return Err("modifier \"fieldref\" needs a field".to_owned());
        }
        Ok(())
    }
}

fn set(flag: &mut bool, modifier: &str) -> Result<(), String> {
    if std::mem::replace(flag, true) {
        return Err(format!("modifier {modifier:?} is given twice"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str) -> Result<Key, String> {
        let mut parts = key.split('|').map(str::to_owned);
        Key::read(field(&parts.next().unwrap(), false)?, &parts.collect::<Vec<_>>())
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (key, expect) in [
            ("a|contains|base64", "must stand before \"contains\""),
            ("a|re|base64", "must stand before \"re\""),
            ("a|base64|re", "cannot be encoded"),
            ("a|windash|cidr", "cannot be encoded"),
            ("a|fieldref|re", "cannot be combined"),
            ("a|fieldref|wide", "as they are"),
            ("a|fieldref|expand", "as they are"),
            ("|fieldref", "needs a field"),
            ("a|wide|windash", "before other encodings"),
            ("a|windash|windash", "and once"),
            ("a|hour|gte", "cannot be combined"),
            ("a|hour|cased", "cannot be combined"),
            ("a|new_value", "\"new_value\" is unknown"),
            ("a|containz", "\"containz\" is unknown"),
            ("a|", "\"\" is unknown"),
            ("a|i", "can only follow \"re\""),
            ("a|contains|startswith", "cannot be combined"),
            ("a|re|cased", "cannot be combined"),
            ("a|exists|all", "stands alone"),
            ("|exists", "needs a field"),
            ("a|all|all", "given twice"),
            ("a..b", "empty segment"),
        ] {
            let reason = read(key).unwrap_err();
            assert!(reason.contains(expect), "{key}: {reason}");
        }
    }

    #[test]
    fn reads_field_operator_and_flags() {
        let key = read("annotations.authorization.k8s.io/decision|re|i|s").unwrap();
        assert_eq!(key.field, Field::path("annotations.authorization.k8s.io/decision").unwrap());
        let flags = Flags { ignore_case: true, multi_line: false, dot_all: true };
        assert_eq!(key.operator, Operator::Expression(flags));
        let key = read("|contains|cased|all").unwrap();
        assert_eq!((key.field, key.operator), (Field::Anywhere, Operator::Contains));
        assert!(key.cased && key.all && !key.negated);
    }
}
