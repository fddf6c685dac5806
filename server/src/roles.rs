//! What a process does. By default it does everything; run apart, the parts meet in Kafka.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

use crate::config::Config;

/// One part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Takes events in, over HTTP and other protocols and from files.
    Receive,
    /// Evaluates rules.
    Detect,
    /// Makes events searchable.
    Index,
    /// Answers searches.
    Query,
    /// Counts correlations, keeps alerts, tells people.
    Alert,
}

impl Role {
    const ALL: [Self; 5] = [Self::Receive, Self::Detect, Self::Index, Self::Query, Self::Alert];

    /// The name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Detect => "detect",
            Self::Index => "index",
            Self::Query => "query",
            Self::Alert => "alert",
        }
    }
}

/// The roles of a process, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roles(BTreeSet<Role>);

impl Roles {
    /// Everything in one process.
    pub(crate) fn all() -> Self {
        Self(Role::ALL.into())
    }

    /// Whether one process does everything.
    pub(crate) fn are_all(&self) -> bool {
        self.0.len() == Role::ALL.len()
    }

    pub(crate) fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Whether rules are evaluated here and what matches is passed on to the process that alerts.
    pub(crate) fn pass_matches_on(&self) -> bool {
        self.has(Role::Detect) && !self.has(Role::Alert)
    }

    /// Whether what others found is what is alerted on here.
    pub(crate) fn read_matches(&self) -> bool {
        self.has(Role::Alert) && !self.has(Role::Detect)
    }

    /// # Errors
    /// Says which process answers instead, if none of the roles is had here.
    pub(crate) fn require_one_of(&self, wanted: &'static [Role]) -> Result<(), Elsewhere> {
        match wanted.iter().any(|role| self.has(*role)) {
            true => Ok(()),
            false => Err(self.elsewhere(wanted)),
        }
    }

    /// What to say to whoever asks for something that another process does.
    pub(crate) fn elsewhere(&self, wanted: &'static [Role]) -> Elsewhere {
        Elsewhere { wanted, held: self.clone() }
    }

    /// Names in the order of [`Role::ALL`].
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|role| role.name()).collect()
    }

    /// Whether these roles can be run with this configuration.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub(crate) fn check(&self, config: &Config) -> Result<()> {
        if self.are_all() {
            return Ok(());
        }
        if self.has(Role::Index) != self.has(Role::Query) {
            bail!(
                "the roles index and query go together, for a search reads the files that the index writes: give both \
                 or none (roles: {self})"
            );
        }
        if config.kafka.as_ref().is_none_or(|kafka| kafka.log.is_none()) {
            bail!(
                "the roles {self} alone need Kafka, in which the processes meet: set kafka.brokers and \
                 kafka.log.topic, or run all roles in one process, which is the default"
            );
        }
        if config.ingest.redaction_key_file.is_none() {
            bail!(
                "processes with some of the roles (here: {self}) must hide secrets under one key, or what one of them \
                 stored is not recognised by another: set ingest.redaction_key_file to the same 32 bytes for all, for \
                 instance the file redaction.key of a data directory"
            );
        }
        Ok(())
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

impl FromStr for Roles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let roles: Result<BTreeSet<Role>, String> = words.map(parse_role).collect();
        match roles? {
            roles if roles.is_empty() => Err(format!("no role is given; known: {}", Self::all())),
            roles => Ok(Self(roles)),
        }
    }
}

fn parse_role(word: &str) -> Result<Role, String> {
    let known = Role::ALL.into_iter().find(|role| role.name() == word);
    known.ok_or_else(|| format!("unknown role {word:?}; known: {}", Roles::all()))
}

/// What was asked for is done by another process.
#[derive(Clone, Debug, thiserror::Error)]
#[error("this process does not have the role {}, but {held}; ask one that has it", names(.wanted))]
pub(crate) struct Elsewhere {
    wanted: &'static [Role],
    held: Roles,
}

fn names(wanted: &[Role]) -> String {
    wanted.iter().map(|role| role.name()).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_and_written_and_unknown_ones_are_named() {
        let roles: Roles = " alert, receive,receive".parse().unwrap();
        assert_eq!(roles.to_string(), "receive,alert");
        assert!("receive,detect,index,query,alert".parse::<Roles>().unwrap().are_all());
        for (text, expect) in
            [("", "no role is given"), ("receive,search", "unknown role \"search\"; known: receive,")]
        {
            let error = text.parse::<Roles>().unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
        }
    }

    #[test]
    fn matches_are_passed_on_only_between_processes() {
        for (roles, passes_on, reads) in [
            ("receive,detect,index,query,alert", false, false),
            ("detect", true, false),
            ("receive,alert", false, true),
            ("detect,alert", false, false),
            ("index,query", false, false),
        ] {
            let roles: Roles = roles.parse().unwrap();
            assert_eq!((roles.pass_matches_on(), roles.read_matches()), (passes_on, reads), "{roles}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_do() {
        let kafka = "kafka: {brokers: k, log: {topic: t}}\n";
        let key = "ingest: {redaction_key_file: /k}\n";
        for (roles, config, expect) in [
            ("receive,detect,index,query,alert", String::new(), None),
            ("index", [kafka, key].concat(), Some("index and query go together")),
            ("query,alert", [kafka, key].concat(), Some("index and query go together")),
            ("receive", key.to_owned(), Some("set kafka.brokers and kafka.log.topic")),
            (
                "alert",
                [key, "kafka: {brokers: k, topics: [{topic: a, cluster: b}]}"].concat(),
                Some("kafka.log.topic"),
            ),
            ("detect", kafka.to_owned(), Some("set ingest.redaction_key_file")),
            ("index,query", [kafka, key].concat(), None),
        ] {
            let roles: Roles = roles.parse().unwrap();
            let checked = roles.check(&Config::parse(&config, "test").unwrap());
            match expect {
                None => assert!(checked.is_ok(), "{roles}: {checked:?}"),
                Some(expect) => {
                    assert!(checked.unwrap_err().to_string().contains(expect), "{roles}: {expect}")
                }
            }
        }
    }

    #[test]
    fn who_asks_the_wrong_process_is_told_which_one_to_ask() {
        let roles: Roles = "receive".parse().unwrap();
        assert!(roles.require_one_of(&[Role::Receive, Role::Index]).is_ok());
        let elsewhere = roles.require_one_of(&[Role::Detect, Role::Alert]).unwrap_err();
        assert_eq!(
            elsewhere.to_string(),
            "this process does not have the role detect or alert, but receive; ask one that has it"
        );
    }
}
