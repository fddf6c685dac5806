//! The key of a detection item: a field's name and the modifiers behind it.

use crate::expression::Flags;
use crate::formula::{Field, Order};

/// Of Sigma, but not of this version.
const LATER: [&str; 15] = [
    "base64",
    "base64offset",
    "day",
    "fieldref",
    "hour",
    "minute",
    "month",
    "utf16",
    "utf16be",
    "utf16le",
    "week",
    "wide",
    "windash",
    "year",
    "new_value",
];

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
            _ => return None,
        })
    }

    /// Whether it compares text in a way in which case can matter.
    fn compares_text(self) -> bool {
        matches!(self, Self::Equals | Self::Contains | Self::StartsWith | Self::EndsWith)
    }
}

impl Key {
    /// Reads `field|modifier|modifier`; without a field it is about every value of the event.
    ///
    /// # Errors
    /// The modifier that is unknown, not supported yet, or cannot stand with another one.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut parts = text.split('|');
        let name = parts.next().unwrap_or_default();
        let field = if name.is_empty() { Field::Anywhere } else { Field::path(name)? };
        let (operator, flags) = (Operator::Equals, false);
        let mut key = Self { field, operator, cased: flags, all: flags, negated: flags, expand: flags };
        for modifier in parts {
            key.apply(modifier)?;
        }
        key.check()?;
        Ok(key)
    }

    fn apply(&mut self, modifier: &str) -> Result<(), String> {
        if let Operator::Expression(flags) = &mut self.operator {
            match modifier {
                "i" => return set(&mut flags.ignore_case, modifier),
                "m" => return set(&mut flags.multi_line, modifier),
                "s" => return set(&mut flags.dot_all, modifier),
                _ => {}
            }
        }
        match modifier {
            "all" => return set(&mut self.all, modifier),
            "cased" => return set(&mut self.cased, modifier),
            "neq" => return set(&mut self.negated, modifier),
            "expand" => return set(&mut self.expand, modifier),
            "i" | "m" | "s" => return Err(format!("modifier {modifier:?} can only follow \"re\"")),
            _ => {}
        }
        let Some(operator) = Operator::by_name(modifier) else {
            let known = LATER.contains(&modifier);
            let what = if known { "is not supported yet" } else { "is unknown" };
            return Err(format!("modifier {modifier:?} {what}"));
        };
        if self.operator != Operator::Equals {
            let name = self.operator.name();
            return Err(format!("modifiers {name:?} and {modifier:?} cannot be combined"));
        }
        self.operator = operator;
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
        if self.all && self.negated {
            return Err(
                "modifiers \"all\" and \"neq\" cannot be combined; negate in the condition".to_owned()
            );
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

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (key, expect) in [
            ("a|base64offset|contains", "\"base64offset\" is not supported yet"),
            ("a|windash", "\"windash\" is not supported yet"),
            ("a|fieldref", "\"fieldref\" is not supported yet"),
            ("a|new_value", "\"new_value\" is not supported yet"),
            ("a|containz", "\"containz\" is unknown"),
            ("a|", "\"\" is unknown"),
            ("a|i", "can only follow \"re\""),
            ("a|contains|startswith", "cannot be combined"),
            ("a|re|cased", "cannot be combined"),
            ("a|exists|all", "stands alone"),
            ("|exists", "needs a field"),
            ("a|all|neq", "negate in the condition"),
            ("a|all|all", "given twice"),
            ("a..b", "empty segment"),
            ("a[any].b", "not supported yet"),
        ] {
            let reason = Key::read(key).unwrap_err();
            assert!(reason.contains(expect), "{key}: {reason}");
        }
    }

    #[test]
    fn reads_field_operator_and_flags() {
        let key = Key::read("annotations.authorization.k8s.io/decision|re|i|s").unwrap();
        assert_eq!(key.field, Field::path("annotations.authorization.k8s.io/decision").unwrap());
        let flags = Flags { ignore_case: true, multi_line: false, dot_all: true };
        assert_eq!(key.operator, Operator::Expression(flags));
        let key = Key::read("|contains|cased|all").unwrap();
        assert_eq!((key.field, key.operator), (Field::Anywhere, Operator::Contains));
        assert!(key.cased && key.all && !key.negated);
    }
}
