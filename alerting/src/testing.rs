//! What the tests of this crate share.

use watchbell_event::{Detection, EventId, Level, Position, Timestamp};

use crate::alert::hash_parts;
use crate::notify::message::{Message, Notice, RuleCount};
use crate::{Alert, AlertId, DeliveryId, Status};

/// Seconds after a fixed moment.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_770_000_000_000_000).plus_micros(seconds * 1_000_000)
}

pub(crate) fn id(number: u64) -> EventId {
    hash_parts(&[&number.to_be_bytes()])
}

/// A detection of its own request at offset `number`, in a group of its own.
pub(crate) fn detection(number: u64) -> Detection {
    let received_at = at(i64::try_from(number).unwrap());
    Detection {
        rule_id: "rule-1".into(),
        title: "A secret was read".into(),
        level: Level::High,
        tags: ["attack.t1552.007".into()].into(),
        event_id: id(number),
        position: Position { partition: 0, offset: number },
        event_time: received_at,
        received_at,
        cluster: "prod".into(),
        request_key: id(number),
        group_key: id(number),
        labels: vec![("user.name".into(), "eve".to_owned())],
        summary: format!("eve read secret {number}"),
        history: false,
        correlation: None,
        explanation: watchbell_event::Deferred::default(),
    }
}

pub(crate) fn notice(number: u64) -> Notice {
    let alert = Alert {
        id: AlertId(id(number)),
        rule_id: "rule-1".to_owned(),
        title: "Secret read".to_owned(),
        level: Level::High,
        tags: vec!["attack.t1552.007".to_owned()],
        cluster: "prod".to_owned(),
        labels: vec![("user.name".to_owned(), "eve".to_owned())],
        first_summary: "eve read secret".to_owned(),
        last_summary: "eve read secret".to_owned(),
        first_event_time: at(0),
        last_event_time: at(60),
        first_received: at(0),
        last_received: at(60),
        count: 1,
        status: Status::Open,
        history: false,
        explanation: watchbell_event::Explanation::default(),
    };
    Notice { alert, more: None, events: vec![id(number)] }
}

/// A message that lists all its alerts, which are of one rule.
pub(crate) fn message(notices: Vec<Notice>) -> Message {
    let total = notices.len() as u64;
    let rules = vec![RuleCount { title: "Secret read".to_owned(), level: Level::High, alerts: total }];
    Message { id: DeliveryId(id(99)), created_at: at(60), total, notices, rules }
}
