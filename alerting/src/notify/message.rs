//! What a message says, whatever the medium.

use watchbell_event::{EventId, Level, Timestamp};

use super::text::{one_line, time};
use crate::{Alert, DeliveryId, Links, Section, links, sections};

/// Longest subject in bytes.
const MAX_SUBJECT_BYTES: usize = 200;
/// How many rules a subject names.
const SUBJECT_RULES: usize = 3;

/// One message to one receiver.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: DeliveryId,
    pub(crate) created_at: Timestamp,
    /// How many alerts it is about.
    pub(crate) total: u64,
    /// The most severe of them, most severe first; the others are only counted.
    pub(crate) notices: Vec<Notice>,
    /// All of them, counted by rule and level, most severe first.
    pub(crate) rules: Vec<RuleCount>,
}

/// One alert in a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    pub(crate) alert: Alert,
    /// For an alert that the receiver knows: how many occurrences were added since.
    pub(crate) more: Option<u64>,
    /// Some of its events, latest first.
    pub(crate) events: Vec<EventId>,
}

/// A caption and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    Text(String, String),
    /// Several values, each on a line of its own.
    List(&'static str, Vec<String>),
    /// The value is an address of this server.
    Link(&'static str, String),
}

impl Detail {
    /// How long its values are, in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(_, value) | Self::Link(_, value) => value.len(),
            Self::List(_, values) => values.iter().map(String::len).sum(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Section> for Detail {
    fn from(Section { caption, mut lines }: Section) -> Self {
        match lines.len() {
            1 => Self::Text(caption.to_owned(), lines.remove(0)),
            _ => Self::List(caption, lines),
        }
    }
}

/// How many alerts of one rule are in a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuleCount {
    pub(crate) title: String,
    pub(crate) level: Level,
    pub(crate) alerts: u64,
}

impl Message {
    /// How many alerts are counted but not listed when `listed` are.
    pub(crate) fn beyond(&self, listed: usize) -> u64 {
        self.total.saturating_sub(listed as u64)
    }

    /// The highest level in the message.
    pub(crate) fn level(&self) -> Level {
        let listed = self.notices.iter().map(|notice| notice.alert.level);
        listed.chain(self.rules.iter().map(|rule| rule.level)).max().unwrap_or(Level::Informational)
    }

    /// One line that says how bad it is, what happened and where.
    pub(crate) fn subject(&self) -> String {
        let level = self.level().name().to_uppercase();
        let subject = match self.notices.as_slice() {
            [notice] if self.total == 1 => {
                let more = notice.more.map_or_else(String::new, |more| format!("{more} more: "));
                let alert = &notice.alert;
                format!("[{level}] {more}{} in {}: {}", alert.title, alert.cluster, notice.summary())
            }
            _ => format!("[{level}] {} alerts{}: {}", self.total, self.common_cluster(), self.rule_list()),
        };
        one_line(&subject, MAX_SUBJECT_BYTES)
    }

    fn common_cluster(&self) -> String {
        let mut clusters = self.notices.iter().map(|notice| &notice.alert.cluster);
        match clusters.next() {
            Some(first) if self.beyond(self.notices.len()) == 0 && clusters.all(|other| other == first) => {
                format!(" in {first}")
            }
            _ => String::new(),
        }
    }

    fn rule_list(&self) -> String {
        let named = self.rules.iter().take(SUBJECT_RULES).map(|rule| match rule.alerts {
            1 => rule.title.clone(),
            many => format!("{} ({many})", rule.title),
        });
        let named = named.collect::<Vec<_>>().join(", ");
        match self.rules.len().saturating_sub(SUBJECT_RULES) {
            0 => named,
            others => format!("{named} and {others} more rules"),
        }
    }
}

impl Notice {
    /// One line about the occurrence that made the notice.
    pub(crate) fn summary(&self) -> &str {
        if self.more.is_some() { &self.alert.last_summary } else { &self.alert.first_summary }
    }

    /// Level, title and cluster in one line.
    pub(crate) fn headline(&self) -> String {
        let alert = &self.alert;
        let level = alert.level.name().to_uppercase();
        one_line(&format!("[{level}] {} in {}", alert.title, alert.cluster), MAX_SUBJECT_BYTES)
    }

    /// Everything worth knowing about the alert, what matters first at the top: who, what and where, when and
    /// how often, where to look further. Without links there are ids.
    pub(crate) fn details(&self, external_url: Option<&str>) -> Vec<Detail> {
        let alert = &self.alert;
        let text = |caption: &str, value: &str| Detail::Text(caption.to_owned(), value.to_owned());
        let mut details: Vec<Detail> =
            self.facts().into_iter().map(|(caption, value)| text(caption, value)).collect();
        details.push(text("Cluster", &alert.cluster));
        details.push(text("When", &self.when()));
        details.push(text("How often", &self.occurrences()));
        if alert.last_summary != self.summary() {
            details.push(text("Latest", &alert.last_summary));
        }
        match self.links(external_url) {
            Some(Links { alert, events, around }) => details.extend([
                Detail::Link("Alert", alert),
                Detail::Link("Events", events),
                Detail::Link("What happened around it", around),
            ]),
            None => {
                let ids: Vec<String> = self.events.iter().map(EventId::to_string).collect();
                details.extend([text("Alert", &alert.id.to_string()), text("Events", &ids.join(", "))]);
            }
        }
        details.extend(sections(&alert.explanation, &alert.tags).into_iter().map(Detail::from));
        details.push(text("Rule", &alert.rule_id));
        details.retain(|detail| !detail.is_empty());
        details
    }

    /// When it happened, in words.
    pub(crate) fn when(&self) -> String {
        let (first, last) = (time(self.alert.first_event_time), time(self.alert.last_event_time));
        match (first.split_once(' '), last.split_once(' ')) {
            _ if first == last => first,
            (Some((day, from)), Some((last_day, to))) if day == last_day => {
                format!("{day} {} to {to}", from.trim_end_matches(" UTC"))
            }
            _ => format!("{first} to {last}"),
        }
    }

    /// How often, in words.
    pub(crate) fn occurrences(&self) -> String {
        match (self.more, self.alert.count) {
            (Some(more), all) => format!("{more} more, {all} in all"),
            (None, 1) => "once".to_owned(),
            (None, count) => format!("{count} times"),
        }
    }

    /// Who, what, where: captions and values, in reading order, then all other labels.
    pub(crate) fn facts(&self) -> Vec<(&str, &str)> {
        let label = |name: &str| {
            let found = self.alert.labels.iter().find(|(label, _)| label == name);
            found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let known = CAPTIONS.iter().filter_map(|(name, caption)| Some((*caption, label(name)?)));
        let other = |name: &str| !CAPTIONS.iter().any(|(known, _)| *known == name);
        let others = self.alert.labels.iter().filter(|(name, value)| other(name) && !value.is_empty());
        known.chain(others.map(|(name, value)| (name.as_str(), value.as_str()))).collect()
    }

    /// Where to look further.
    pub(crate) fn links(&self, external_url: Option<&str>) -> Option<Links> {
        external_url.map(|url| Links::new(&self.alert, url))
    }

    /// Where to look at the alert.
    pub(crate) fn link(&self, external_url: Option<&str>) -> Option<String> {
        Some(self.links(external_url)?.alert)
    }
}

/// Where to look at all alerts.
pub(crate) fn list_link(external_url: Option<&str>) -> Option<String> {
    external_url.map(links::list)
}

/// Labels that have a word people read.
const CAPTIONS: [(&str, &str); 7] = [
    ("user.name", "Who"),
    ("event.action", "Action"),
    ("orchestrator.resource.type", "Resource"),
    ("orchestrator.resource.name", "Name"),
    ("orchestrator.namespace", "Namespace"),
    ("source.ip", "From"),
    ("event.outcome", "Outcome"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{message, notice};

    #[test]
    fn a_subject_says_how_bad_what_and_where_in_one_line() {
        let mut one = notice(1);
        one.alert.first_summary = "eve read\r\nBcc: mallory@example.org".to_owned();
        assert_eq!(
            message(vec![one.clone()]).subject(),
            "[HIGH] Secret read in prod: eve read Bcc: mallory@example.org"
        );
        one.more = Some(12);
        assert!(message(vec![one.clone()]).subject().starts_with("[HIGH] 12 more: Secret read in prod"));
        let two = message(vec![notice(1), notice(2)]);
        assert_eq!(two.subject(), "[HIGH] 2 alerts in prod: Secret read (2)");
        one.alert.title = "x".repeat(1000);
        assert!(message(vec![one]).subject().len() <= MAX_SUBJECT_BYTES);
    }

    #[test]
    fn details_say_who_when_how_often_and_where_to_look() {
        let mut notice = notice(1);
        let captions = |notice: &Notice, url| {
            let details = notice.details(url);
            let captions = details.iter().map(|detail| match detail {
                Detail::Text(caption, _) => caption.clone(),
                Detail::List(caption, _) | Detail::Link(caption, _) => (*caption).to_owned(),
            });
            captions.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(captions(&notice, None), "Who, Cluster, When, How often, Alert, Events, ATT&CK, Rule");
        (notice.alert.count, notice.alert.last_summary) = (2, "eve did it again".to_owned());
        let url = Some("https://watch.example");
        let links = "Alert, Events, What happened around it";
        let expect = format!("Who, Cluster, When, How often, Latest, {links}, ATT&CK, Rule");
        assert_eq!(captions(&notice, url), expect);
        let details = notice.details(url);
        assert!(details.contains(&Detail::Link("Alert", notice.link(url).unwrap())), "{details:?}");
        notice.more = Some(1);
        assert_eq!(captions(&notice, url), expect.replace("Latest, ", ""));
    }

    #[test]
    fn facts_come_in_reading_order() {
        let mut notice = notice(1);
        notice.alert.labels = [("a", "1"), ("source.ip", "10.0.0.1"), ("user.name", "eve"), ("b", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        assert_eq!(notice.facts(), [("Who", "eve"), ("From", "10.0.0.1"), ("a", "1")]);
    }
}
