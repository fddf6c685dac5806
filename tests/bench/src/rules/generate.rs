//! Makes rules that read what the shipped rules read, in the same forms, with values that are partly those of the
//! given events and partly not.

mod pool;

use serde_json::{Value, json};

use self::pool::Pool;
use crate::random::Random;

/// Makes rules, each as a document of one line, which is YAML too.
pub(crate) struct Generator {
    random: Random,
    pool: Pool,
    made: usize,
}

/// How many of a hundred values are taken from the events; the others occur nowhere.
const PERCENT_REAL: usize = 25;
/// How many of a hundred beginnings, ends and parts are.
const PERCENT_REAL_PARTS: usize = 10;
const WRITES: [&str; 3] = ["create", "update", "patch"];
const READS: [&str; 3] = ["get", "list", "watch"];
/// The parts of a rule's condition, by the kinds of rules that the library has, in a fixed mix.
const KINDS: [fn(&mut Generator) -> Value; 20] = [
    Generator::body,
    Generator::address,
    Generator::object,
    Generator::client,
    Generator::body,
    Generator::network,
    Generator::address,
    Generator::body,
    Generator::failure,
    Generator::object,
    Generator::body,
    Generator::client,
    Generator::body,
    Generator::address,
    Generator::object,
    Generator::body,
    Generator::client,
    Generator::network,
    Generator::body,
    Generator::failure,
];

impl Generator {
    /// Learns what occurs in the events.
    pub(crate) fn new(seed: u64, events: &[&[u8]]) -> Self {
        Self { random: Random::new(seed), pool: Pool::new(events), made: 0 }
    }

    /// The next rule. Whether it matches any event is left to chance.
    pub(crate) fn rule(&mut self) -> String {
        let detection = KINDS[self.made % KINDS.len()](self);
        self.document(&detection)
    }

    /// A rule about the object of one event, which matches that event at least.
    pub(crate) fn matching_rule(&mut self, event: &[u8]) -> Option<String> {
        let event: Value = serde_json::from_slice(event).ok()?;
        let text = |pointer: &str| Some(event.pointer(pointer)?.as_str()?.to_owned());
        let detection = json!({
            "selection": {
                "verb": text("/verb")?,
                "objectRef.resource": text("/objectRef/resource")?,
                "objectRef.name": text("/objectRef/name")?,
                "user.username": text("/user/username")?,
                "requestURI|startswith": text("/requestURI")?.split('?').next()?,
            },
            "condition": "selection",
        });
        Some(self.document(&detection))
    }

    fn document(&mut self, detection: &Value) -> String {
        self.made += 1;
        json!({
            "title": format!("Generated rule {}", self.made),
            "id": self.random.uuid(),
            "status": "test",
            "level": *self.random.pick(&["low", "medium", "high"]),
            "logsource": { "product": "kubernetes", "service": "audit" },
            "detection": detection,
        })
        .to_string()
    }

    /// Something written with a body that has certain values.
    fn body(&mut self) -> Value {
        let path = self.pool.body_path(&mut self.random);
        let operator = *self.random.pick(&["", "", "|contains", "|startswith", "|endswith"]);
        let count = self.random.between(1, 12);
        let values: Vec<String> = (0..count).map(|_| self.value(&path, operator)).collect();
        json!({
            "write": {
                "verb": WRITES,
                "objectRef.resource": self.several("objectRef.resource", 4),
                "responseStatus.code|lt": 400,
            },
            "requested": { format!("{path}{operator}"): values },
            "filter_machines": { "user.username|startswith": ["system:kube-", "system:apiserver"] },
            "filter_known": { "user.username": self.several("user.username", 3) },
            "condition": "write and requested and not 1 of filter_*",
        })
    }

    /// A request's address with certain words, or of a certain form.
    fn address(&mut self) -> Value {
        let (word, other) = (self.random.word(6), self.random.word(7));
        let words = match self.random.below(3) {
            0 => json!({ "requestURI|contains": [format!("command={word}"), format!("{other}%20")] }),
            1 => json!({ "requestURI|re": format!("command=(/usr/bin/)?{word}&.*https?(:|%3A)") }),
            _ => {
                json!({ "requestURI|endswith": [self.value("requestURI", "|endswith"), format!("/{word}")] })
            }
        };
        json!({
            "request": {
                "objectRef.resource": self.several("objectRef.resource", 2),
                "verb": *self.random.pick(&["create", "get"]),
                "responseStatus.code|lt": 400,
            },
            "words": words,
            "condition": "request and words",
        })
    }

    /// Certain objects read or deleted, except by machines.
    fn object(&mut self) -> Value {
        let verbs = if self.random.chance(70) { json!(READS) } else { json!(["delete", "deletecollection"]) };
        json!({
            "access": {
                "verb": verbs,
                "objectRef.resource": self.several("objectRef.resource", 2),
                "objectRef.namespace": self.several("objectRef.namespace", 2),
                "objectRef.name": self.several("objectRef.name", 4),
            },
            "filter_machines": {
                "user.username|startswith": ["system:serviceaccount:", "system:node:", "system:kube-"],
            },
            "condition": "access and not filter_machines",
        })
    }

    /// A client or a person of a certain name.
    fn client(&mut self) -> Value {
        let (field, operator) = *self.random.pick(&[
            ("userAgent", "|startswith"),
            ("userAgent", "|contains"),
            ("user.username", "|endswith"),
            ("user.username", ""),
            ("user.groups", ""),
        ]);
        let values = [self.value(field, operator), self.value(field, operator)];
        json!({
            "who": { format!("{field}{operator}"): values },
            "what": { "verb": self.several("verb", 2), "objectRef.resource": self.several("objectRef.resource", 3) },
            "filter_namespace": { "objectRef.namespace": ["kube-system", "kube-public"] },
            "condition": "who and what and not filter_namespace",
        })
    }

    /// A client in a certain network.
    fn network(&mut self) -> Value {
        let block = |random: &mut Random| {
            let length = random.between(16, 24);
            // Some engines insist that what lies within the block is zero.
            let third = random.below(256) >> (24 - length) << (24 - length);
            format!("{}.{}.{third}.0/{length}", random.between(11, 126), random.below(256))
        };
        let blocks = [block(&mut self.random), block(&mut self.random)];
        json!({
            "from": { "sourceIPs|cidr": blocks },
            "what": { "objectRef.resource": self.several("objectRef.resource", 3) },
            "filter_nodes": { "user.groups": "system:nodes" },
            "condition": "from and what and not filter_nodes",
        })
    }

    /// Something that failed, by somebody who acted for somebody else.
    fn failure(&mut self) -> Value {
        let impersonated = self.random.chance(50);
        json!({
            "failed": {
                "responseStatus.code|gte": 400,
                "objectRef.resource": self.several("objectRef.resource", 2),
                "impersonatedUser.username|exists": impersonated,
                "objectRef.name|contains": self.value("objectRef.name", "|contains"),
            },
            "filter_missing": { "responseStatus.code": [404, 409] },
            "condition": "failed and not filter_missing",
        })
    }

    /// Up to `most` values of a field.
    fn several(&mut self, field: &str, most: usize) -> Vec<String> {
        let count = self.random.between(1, most);
        (0..count).map(|_| self.value(field, "")).collect()
    }

    /// A value to compare a field with, by an operator. Verbs and resources are few, and real ones.
    fn value(&mut self, field: &str, operator: &str) -> String {
        let few = matches!(field, "verb" | "objectRef.resource");
        let Some(real) = self.pool.value(field, &mut self.random) else { return self.random.word(8) };
        let word = self.random.word(6);
        if few || (operator.is_empty() && self.random.chance(PERCENT_REAL)) {
            return real;
        }
        let real_part = self.random.chance(PERCENT_REAL_PARTS);
        match operator {
            "|startswith" if real_part => cut(&real, 14),
            "|startswith" => format!("{}{word}", cut(&real, 12)),
            "|endswith" if real_part => end(&real, 8),
            "|endswith" => format!("{word}{}", end(&real, 8)),
            "|contains" if real_part => cut(&real, 7),
            "|contains" => format!("{}-{word}", cut(&real, 5)),
            _ if self.random.chance(50) => format!("{}-{word}", cut(&real, 12)),
            _ => word,
        }
    }
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

fn end(text: &str, characters: usize) -> String {
    text.chars().skip(text.chars().count().saturating_sub(characters)).collect()
}
