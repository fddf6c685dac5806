//! The form that every rule language compiles to: a Boolean formula over tests of fields.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use watchbell_event::predicate::Number;

use crate::derived::Derived;
use crate::expression::Expression;
use crate::moment::{self, Unit};
use crate::pattern::Pattern;
use crate::text::fold_into;

/// Longest name of a field, in bytes.
pub(crate) const MAX_FIELD_BYTES: usize = 512;
/// Most segments (`a.b.c` has three) in the name of a field.
pub(crate) const MAX_FIELD_SEGMENTS: usize = 24;

/// What must hold for a rule to match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
            Self::Test(test) => match &test.check {
                Check::Members(members) => 1 + members.body.size(),
                _ => 1,
            },
        }
    }

    /// Whether some test looks into this body.
    pub(crate) fn reads(&self, body: Body) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.reads(body)),
            Self::Not(part) => part.reads(body),
            Self::Test(test) => test.bodies().has(body),
        }
    }

    /// Memory of the regular expressions in it, in bytes.
    pub(crate) fn expression_bytes(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::expression_bytes).sum(),
            Self::Not(part) => part.expression_bytes(),
            Self::Test(test) => match &test.check {
                Check::Expression(expression) => expression.memory_bytes(),
                Check::Members(members) => members.body.expression_bytes(),
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

impl Test {
    /// The fields it looks at.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        let other = match &self.check {
            Check::Reference(reference) => Some(&reference.other),
            _ => None,
        };
        std::iter::once(&self.field).chain(other)
    }

    /// The parts of an audit event that policy may leave out and that the test needs.
    pub(crate) fn bodies(&self) -> Bodies {
        self.fields().filter_map(Field::body).fold(Bodies::default(), Bodies::with)
    }
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
        let name = &name.replace("\\[", "[").replace("\\]", "]");
        if name.len() > MAX_FIELD_BYTES {
            return Err(format!("a field's name is longer than {MAX_FIELD_BYTES} bytes"));
        }
        if name.split('.').count() > MAX_FIELD_SEGMENTS {
            return Err(format!("field {name:?} has more than {MAX_FIELD_SEGMENTS} segments"));
        }
        if name.split('.').any(str::is_empty) {
            return Err(format!("field {name:?} has an empty segment"));
        }
        Ok(Self::Path(name.as_str().into()))
    }

    /// The member itself, within conditions on members of an array.
    pub(crate) fn itself() -> Self {
        Self::Path(ITSELF.into())
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

/// A set of bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bodies(u8);

impl Bodies {
    /// With another one.
    pub(crate) fn with(self, body: Body) -> Self {
        Self(self.0 | 1 << body as u8)
    }

    /// Whether this is one of them.
    pub(crate) fn has(self, body: Body) -> bool {
        self.meets(Self::default().with(body))
    }

    /// Whether one of these is among the others.
    pub(crate) fn meets(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether there is none.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
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
    Compare(Order, Number),
    /// It is an address in this block.
    Network(IpNet),
    /// It is a moment, and this part of it in UTC is this number.
    Time(Unit, i16),
    /// It is not null, and its text, as it is, is none of these; objects and arrays do not count.
    Outside(BTreeSet<Box<str>>),
    /// It compares so to a value of another field.
    Reference(Reference),
    /// It is an array with such members.
    Members(Members),
}

impl Check {
    /// Whether text satisfies it, on its own. `buffer` is scratch space.
    pub(crate) fn holds_for(&self, text: &str, buffer: &mut String) -> bool {
        match self {
            Self::Exists | Self::Any => true,
            Self::Folded(pattern) => {
                fold_into(text, buffer);
                pattern.matches(buffer)
            }
            Self::Cased(pattern) => pattern.matches(text),
            Self::Expression(expression) => expression.matches(text),
            Self::Compare(order, threshold) => {
                exact_number(text).is_some_and(|number| order.holds(number, *threshold))
            }
            Self::Network(network) => address(text).is_some_and(|address| network.contains(&address)),
            Self::Time(unit, number) => {
                moment::parts(text).is_some_and(|parts| parts.contains(&(*unit, *number)))
            }
            Self::Outside(texts) => !texts.contains(text),
            // Text alone does not decide these.
            Self::Null | Self::Reference(_) | Self::Members(_) => false,
        }
    }
}

/// Conditions on one member of an array. Members of arrays within the array are its members, too, and what is
/// no array and not null is the only member of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Members {
    /// Which member is looked at.
    pub(crate) which: Which,
    /// What must hold for it; paths begin at the member.
    pub(crate) body: Arc<Formula>,
}

/// Which members of an array are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    /// Each, until one satisfies the conditions.
    Any,
    /// The one of this number, from 0; from the end, from -1.
    At(i32),
}

impl Which {
    /// The position that is meant among so many members; none if it is any, or there is none such.
    pub(crate) fn position(self, count: usize) -> Option<usize> {
        let Self::At(number) = self else { return None };
        let distance = usize::try_from(number.unsigned_abs()).ok()?;
        let position = if number < 0 { count.checked_sub(distance)? } else { distance };
        (position < count).then_some(position)
    }
}

/// The name of the member itself, within conditions on members.
pub(crate) const ITSELF: &str = ".";

/// A comparison to the values of another field, by text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reference {
    /// The other field.
    pub(crate) other: Field,
    /// Where in the value that of the other field stands.
    pub(crate) place: Place,
    /// Upper and lower case differ.
    pub(crate) cased: bool,
}

/// Most values of one field that are compared to those of another, those that stand last in the event.
pub(crate) const MAX_COMPARED_VALUES: usize = 1_000;

/// Where in a value another one stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Whole,
    Start,
    End,
    Within,
}

impl Place {
    /// Whether `other` stands there in `text`.
    pub(crate) fn holds(self, text: &str, other: &str) -> bool {
        match self {
            Self::Whole => text == other,
            Self::Start => text.starts_with(other),
            Self::End => text.ends_with(other),
            Self::Within => text.contains(other),
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
    pub(crate) fn holds(self, value: Number, threshold: Number) -> bool {
        let order = value.compare(threshold);
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// Reads text as a finite number; whole numbers of 64 bits as they are, all others as the nearest floating point
/// number.
pub(crate) fn exact_number(text: &str) -> Option<Number> {
    let signed = || text.parse::<i64>().ok().map(Number::from);
    let unsigned = || text.parse::<u64>().ok().map(Number::from);
    signed().or_else(unsigned).or_else(|| number(text).map(Number::from))
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
