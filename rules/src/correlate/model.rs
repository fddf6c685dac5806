//! A correlation as it is written.

/// Most rules that one correlation refers to.
pub(crate) const MAX_REFERENCES: usize = 64;
/// Most fields whose values are counted together.
pub(crate) const MAX_COUNTED_FIELDS: usize = 8;
/// Largest number of events or values that a condition may ask for: below what one group holds, so that no
/// bound on memory can keep a condition from becoming true.
pub(crate) const MAX_THRESHOLD: f64 = 50_000.0;

/// What stands under `correlation`.
#[derive(Clone, Debug)]
pub(crate) struct Correlation {
    /// What is counted.
    pub(crate) kind: Kind,
    /// The rules whose matches are counted, by id or name.
    pub(crate) references: Vec<Reference>,
    /// Only events with equal values of these are counted together.
    pub(crate) group_by: Vec<GroupField>,
    /// The fields whose values are counted, summed up or learned.
    pub(crate) fields: Vec<String>,
    /// Two events are in one window if they lie at most this far apart.
    pub(crate) span_micros: i64,
    /// What must hold within a window.
    pub(crate) condition: Condition,
    /// Whether the rules referred to also make alerts of their own.
    pub(crate) generate: bool,
    /// How long a group learns values in silence.
    pub(crate) warm_up_micros: i64,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Events.
    EventCount,
    /// Distinct values.
    ValueCount,
    /// Rules that matched.
    Temporal,
    /// Rules that matched in the order given.
    TemporalOrdered,
    /// The sum of values.
    Sum,
    /// Their mean.
    Average,
    /// The smallest value that at least this share of the values, in percent, does not exceed.
    Percentile(f64),
    /// The mean of the middle values.
    Median,
    /// Values not seen for the timespan.
    NewValue,
}

/// A rule referred to.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    /// Its id or name.
    pub(crate) name: String,
    /// Where that is written.
    pub(crate) line: usize,
}

/// A field to group by.
#[derive(Clone, Debug)]
pub(crate) struct GroupField {
    /// Its name, or an alias.
    pub(crate) name: String,
    /// The field's name in events that a rule matched, by the rule's id or name.
    pub(crate) aliases: Vec<(String, String)>,
}

impl GroupField {
    /// The field's name in events that the rule known by one of `names` matched.
    pub(crate) fn in_rule(&self, names: &[&str]) -> &str {
        let found = self.aliases.iter().find(|(rule, _)| names.contains(&rule.as_str()));
        found.map_or(&self.name, |(_, field)| field)
    }
}

/// What must hold within a window.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    /// The number that is counted lies within all of these.
    Number(Vec<Bound>),
    /// These rules matched, and those did not.
    Rules(Presence),
}

/// One side of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) comparison: Comparison,
    pub(crate) number: f64,
}

/// How a number compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

impl Bound {
    /// Whether a number is on this side.
    #[expect(clippy::float_cmp, reason = "counts are whole numbers, and sums are exact")]
    pub(crate) fn holds(self, value: f64) -> bool {
        match self.comparison {
            Comparison::Less => value < self.number,
            Comparison::LessOrEqual => value <= self.number,
            Comparison::Greater => value > self.number,
            Comparison::GreaterOrEqual => value >= self.number,
            Comparison::Equal => value == self.number,
            Comparison::NotEqual => value != self.number,
        }
    }

    /// Whether more events can make it true, but never false.
    fn only_grows(self) -> bool {
        matches!(self.comparison, Comparison::Greater | Comparison::GreaterOrEqual)
    }
}

/// Which of the rules referred to, by their place in the list, matched within the window.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Presence {
    Rule(usize),
    Not(Box<Presence>),
    All(Vec<Presence>),
    Any(Vec<Presence>),
}

impl Presence {
    /// Whether it holds, given which rules are there.
    pub(crate) fn holds(&self, there: &impl Fn(usize) -> bool) -> bool {
        match self {
            Self::Rule(rule) => there(*rule),
            Self::Not(part) => !part.holds(there),
            Self::All(parts) => parts.iter().all(|part| part.holds(there)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(there)),
        }
    }

    /// Whether it negates anything.
    pub(crate) fn has_not(&self) -> bool {
        match self {
            Self::Rule(_) => false,
            Self::Not(_) => true,
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::has_not),
        }
    }

    /// The rules that must be there and those that must not, if it is no more than that.
    pub(crate) fn as_lists(&self) -> Option<(Vec<usize>, Vec<usize>)> {
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        let parts = match self {
            Self::All(parts) => parts.as_slice(),
            _ => std::slice::from_ref(self),
        };
        for part in parts {
            match part {
                Self::Rule(rule) => wanted.push(*rule),
                Self::Not(inner) => match **inner {
                    Self::Rule(rule) => unwanted.push(rule),
                    _ => return None,
                },
                _ => return None,
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        Some((wanted, unwanted))
    }
}

impl Correlation {
    /// Whether the condition can only become true as events are added, and so is decided at once. All others
    /// wait until no earlier event can come any more.
    pub(crate) fn is_immediate(&self) -> bool {
        match (&self.kind, &self.condition) {
            (Kind::NewValue, _) => true,
            (
                Kind::EventCount | Kind::ValueCount | Kind::Temporal | Kind::TemporalOrdered,
                Condition::Number(bounds),
            ) => bounds.iter().all(|bound| bound.only_grows()),
            (_, Condition::Rules(presence)) => !presence.has_not(),
            _ => false,
        }
    }
}
