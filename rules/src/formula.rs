//! The form that every rule language compiles to: a Boolean formula over tests of fields.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::derived::Derived;
use crate::expression::Expression;
use crate::pattern::Pattern;
use crate::text::fold_into;

/// Longest name of a field, in bytes.
pub(crate) const MAX_FIELD_BYTES: usize = 512;
/// Most segments (`a.b.c` has three) in the name of a field.
pub(crate) const MAX_FIELD_SEGMENTS: usize = 24;

/// What must hold for a rule to match.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Formula {
    /// Each of these; with none of them, true.
    All(Vec<Formula>),
    /// At least one of these; with none of them, false.
    Any(Vec<Formula>),
    /// Not this.
    Not(Box<Formula>),
    /// This test of one field.
    Test(Arc<Test>),
}

impl Formula {
    /// A formula of one test.
    pub(crate) fn test(field: Field, check: Check) -> Self {
        Self::Test(Arc::new(Test { field, check }))
    }

    /// The negation.
    pub(crate) fn negate(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// How many nodes the formula has.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => 1 + parts.iter().map(Self::size).sum::<usize>(),
            Self::Not(part) => 1 + part.size(),
            Self::Test(_) => 1,
        }
    }

    /// Whether some test looks into this body.
    pub(crate) fn reads(&self, body: Body) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.reads(body)),
            Self::Not(part) => part.reads(body),
            Self::Test(test) => test.field.body() == Some(body),
        }
    }

    /// Memory of the regular expressions in it, in bytes.
    pub(crate) fn expression_bytes(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::expression_bytes).sum(),
            Self::Not(part) => part.expression_bytes(),
            Self::Test(test) => match &test.check {
                Check::Expression(expression) => expression.memory_bytes(),
                _ => 0,
            },
        }
    }
}

/// A test of one field. It holds if any of the field's values satisfies it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Test {
    /// Which values are looked at.
    pub(crate) field: Field,
    /// What one of them must satisfy.
    pub(crate) check: Check,
}

/// Which values of an event a test looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Field {
    /// Every scalar in the event, whatever its path.
    Anywhere,
    /// The values at a dotted path, through arrays, by every split of the dots; or of a facet.
    Path(Box<str>),
    /// Values that are computed from several places of the event.
    Derived(Box<Derived>),
}

impl Field {
    /// Checks the name of a field.
    ///
    /// # Errors
    /// Why no event can have a field of this name.
    pub(crate) fn path(name: &str) -> Result<Self, String> {
        if name.len() > MAX_FIELD_BYTES {
            return Err(format!("a field's name is longer than {MAX_FIELD_BYTES} bytes"));
        }
        if name.split('.').count() > MAX_FIELD_SEGMENTS {
            return Err(format!("field {name:?} has more than {MAX_FIELD_SEGMENTS} segments"));
        }
        if name.split('.').any(str::is_empty) {
            return Err(format!("field {name:?} has an empty segment"));
        }
        if name.contains(['[', ']']) {
            return Err(format!(
                "field {name:?}: binding conditions to one array member ([any], [all], [N]) is not supported yet"
            ));
        }
        Ok(Self::Path(name.into()))
    }

    /// Whether this is the field of this name.
    pub(crate) fn is(&self, name: &str) -> bool {
        matches!(self, Self::Path(path) if **path == *name)
    }

    /// The name, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Anywhere => "any value".to_owned(),
            Self::Path(path) => path.to_string(),
            Self::Derived(derived) => derived.describe(),
        }
    }

    /// The part of an audit event that policy may leave out and that this field lies in.
    pub(crate) fn body(&self) -> Option<Body> {
        match self {
            Self::Anywhere => None,
            Self::Path(path) => path.split('.').next().and_then(Body::named),
            Self::Derived(derived) => derived.body(),
        }
    }
}

/// A part of an audit event that is present only at higher audit levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Body {
    /// `requestObject`, of levels Request and RequestResponse.
    Request,
    /// `responseObject`, of level RequestResponse.
    Response,
}

impl Body {
    /// The body that an event keeps under this key.
    pub(crate) fn named(key: &str) -> Option<Self> {
        match key {
            "requestObject" => Some(Self::Request),
            "responseObject" => Some(Self::Response),
            _ => None,
        }
    }
}

/// What one value must satisfy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Check {
    /// It is there, even if it is null.
    Exists,
    /// It is null.
    Null,
    /// It is there and not null; objects count.
    Any,
    /// Its folded text matches a folded pattern.
    Folded(Pattern),
    /// Its text, as it is, matches a pattern.
    Cased(Pattern),
    /// Its text, as it is, matches a regular expression.
    Expression(Expression),
    /// It is a number, or text that is one, on this side of a threshold.
    Compare(Order, Threshold),
    /// It is an address in this block.
    Network(IpNet),
    /// It is not null, and its text, as it is, is none of these; objects and arrays do not count.
    Outside(BTreeSet<Box<str>>),
}

impl Check {
    /// Whether text satisfies it, on its own. `buffer` is scratch space.
    pub(crate) fn holds_for(&self, text: &str, buffer: &mut String) -> bool {
        match self {
            Self::Exists | Self::Any => true,
            Self::Null => false,
            Self::Folded(pattern) => {
                fold_into(text, buffer);
                pattern.matches(buffer)
            }
            Self::Cased(pattern) => pattern.matches(text),
            Self::Expression(expression) => expression.matches(text),
            Self::Compare(order, threshold) => {
                number(text).is_some_and(|number| order.holds(number, threshold.get()))
            }
            Self::Network(network) => address(text).is_some_and(|address| network.contains(&address)),
            Self::Outside(texts) => !texts.contains(text),
        }
    }
}

/// How a value compares to a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    /// value < threshold
    Less,
    /// value <= threshold
    LessOrEqual,
    /// value > threshold
    Greater,
    /// value >= threshold
    GreaterOrEqual,
}

impl Order {
    /// Whether `value` is on this side of `threshold`.
    pub(crate) fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Less => value < threshold,
            Self::LessOrEqual => value <= threshold,
            Self::Greater => value > threshold,
            Self::GreaterOrEqual => value >= threshold,
        }
    }
}

/// A finite number, comparable and hashable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Threshold(u64);

impl Threshold {
    /// Takes a finite number.
    pub(crate) fn new(number: f64) -> Option<Self> {
        number.is_finite().then(|| Self((number + 0.0).to_bits()))
    }

    /// The number.
    pub(crate) fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// Reads text as a finite number.
pub(crate) fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Reads text as an address; an IPv4 address written as IPv6 is the IPv4 address.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// Reads a block such as `10.0.0.0/8`; an address alone is a block of one.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(IpNet::trunc(&network))
}
