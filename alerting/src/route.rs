//! Which receivers hear of an alert: an ordered tree of routes, walked as Alertmanager does.
//!
//! Depth first, in order; the first child that matches wins unless it says `continue`; if no child matches,
//! the node itself does. One difference, because security rules have levels that page nobody: a route whose
//! minimum level is not given, by itself or an ancestor, takes [`DEFAULT_MIN_LEVEL`] and above, and a route
//! that would not notify at an alert's level does not match it. Imported history never matches.

mod matcher;

use std::collections::HashSet;

use watchbell_event::{Detection, Level};

pub use matcher::{Matcher, MatcherError, Operator};

/// The lowest level that notifies unless a route says otherwise.
pub const DEFAULT_MIN_LEVEL: Level = Level::Medium;
/// Most routes in a tree.
pub const MAX_ROUTES: usize = 1000;
/// Deepest nesting of routes.
pub const MAX_DEPTH: usize = 16;

/// One route as configured.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Who is notified; inherited if absent. A tree without any receiver notifies nobody.
    pub receiver: Option<String>,
    /// The lowest level that notifies; inherited if absent.
    pub min_level: Option<Level>,
    /// All of them must match. The root takes none.
    pub matchers: Vec<Matcher>,
    /// Goes on to the following siblings after a match.
    pub continue_matching: bool,
    /// More specific routes, tried first.
    pub routes: Vec<Route>,
}

/// Why a tree of routes was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RouteError {
    /// A route names a receiver that is not configured.
    #[error("route to unknown receiver {0:?}")]
    UnknownReceiver(String),
    /// The root must take every alert, so that none is lost between routes.
    #[error("the root route takes no matchers")]
    RootMatches,
    /// Too many routes.
    #[error("more than {MAX_ROUTES} routes")]
    TooMany,
    /// Nested too deep.
    #[error("routes nested deeper than {MAX_DEPTH}")]
    TooDeep,
}

/// A tree of routes that was checked.
#[derive(Clone, Debug, Default)]
pub struct Router {
    root: Route,
}

impl Router {
    /// Checks a tree against the names of the configured receivers.
    ///
    /// # Errors
    /// The first problem, see [`RouteError`].
    pub fn new(root: Route, receivers: &[&str]) -> Result<Self, RouteError> {
        if !root.matchers.is_empty() {
            return Err(RouteError::RootMatches);
        }
        let mut count = 0;
        check(&root, receivers, 0, &mut count)?;
        Ok(Self { root })
    }

    /// The receivers that are to hear of a detection, each once, in the order of the routes.
    #[must_use]
    pub fn route(&self, detection: &Detection) -> Vec<&str> {
        let mut found = Vec::new();
        if !detection.history {
            let inherited = Inherited { receiver: None, min_level: DEFAULT_MIN_LEVEL };
            walk(&self.root, inherited, detection, &mut found);
        }
        let mut seen = HashSet::new();
        found.retain(|receiver| seen.insert(*receiver));
        found
    }
}

fn check(route: &Route, receivers: &[&str], depth: usize, count: &mut usize) -> Result<(), RouteError> {
    *count += 1;
    if *count > MAX_ROUTES {
        return Err(RouteError::TooMany);
    }
    if depth > MAX_DEPTH {
        return Err(RouteError::TooDeep);
    }
    match &route.receiver {
        Some(name) if !receivers.contains(&name.as_str()) => {
            return Err(RouteError::UnknownReceiver(name.clone()));
        }
        _ => {}
    }
    route.routes.iter().try_for_each(|child| check(child, receivers, depth + 1, count))
}

#[derive(Clone, Copy)]
struct Inherited<'a> {
    receiver: Option<&'a str>,
    min_level: Level,
}

/// Returns whether the route, or one below it, took the detection.
fn walk<'a>(
    route: &'a Route,
    inherited: Inherited<'a>,
    detection: &Detection,
    found: &mut Vec<&'a str>,
) -> bool {
    if !route.matchers.iter().all(|matcher| matcher.matches(detection)) {
        return false;
    }
    let own = Inherited {
        receiver: route.receiver.as_deref().or(inherited.receiver),
        min_level: route.min_level.unwrap_or(inherited.min_level),
    };
    let mut taken = false;
    for child in &route.routes {
        if walk(child, own, detection, found) {
            taken = true;
            if !child.continue_matching {
                break;
            }
        }
    }
    if !taken && detection.level >= own.min_level {
        found.extend(own.receiver);
        taken = true;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::detection;

    fn route(receiver: &str, matchers: &[&str], min_level: Option<Level>, routes: Vec<Route>) -> Route {
        let receiver = (!receiver.is_empty()).then(|| receiver.to_owned());
        let matchers = matchers.iter().map(|text| text.parse().unwrap()).collect();
        Route { receiver, min_level, matchers, continue_matching: false, routes }
    }

    fn check(root: Route, level: Level, labels: &[(&'static str, &str)], expect: &[&str]) {
        let router = Router::new(root, &["default", "a", "b"]).unwrap();
        let mut detection = detection(1);
        detection.level = level;
        detection.cluster = "prod".into();
        detection.labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())).collect();
        assert_eq!(router.route(&detection), expect);
        detection.history = true;
        assert!(router.route(&detection).is_empty());
    }

    #[test]
    fn the_first_matching_child_wins_unless_it_continues() {
        let tree = |continue_matching| {
            let first = Route { continue_matching, ..route("a", &["cluster=prod"], None, vec![]) };
            let second = route("b", &["cluster=~p.*"], None, vec![]);
            route("default", &[], None, vec![first, second])
        };
        check(tree(false), Level::High, &[], &["a"]);
        check(tree(true), Level::High, &[], &["a", "b"]);
    }

    #[test]
    fn what_no_child_takes_falls_to_the_node_itself_and_receivers_are_inherited() {
        let child =
            route("a", &["user.name=eve"], None, vec![route("", &["source.ip=1.2.3.4"], None, vec![])]);
        let tree = || route("default", &[], None, vec![child.clone()]);
        check(tree(), Level::High, &[("user.name", "eve"), ("source.ip", "1.2.3.4")], &["a"]);
        check(tree(), Level::High, &[("user.name", "eve")], &["a"]);
        check(tree(), Level::High, &[("user.name", "bob")], &["default"]);
        check(tree(), Level::High, &[], &["default"]);
    }

    #[test]
    fn low_levels_notify_only_where_a_route_says_so() {
        let tree = || {
            let prod = route("a", &["cluster=prod"], None, vec![]);
            let low = route("b", &[], Some(Level::Low), vec![]);
            route("default", &[], None, vec![prod, low])
        };
        check(tree(), Level::Medium, &[], &["a"]);
        check(tree(), Level::Low, &[], &["b"]);
        check(tree(), Level::Informational, &[], &[]);
        let critical = || route("default", &[], Some(Level::Critical), vec![]);
        check(critical(), Level::High, &[], &[]);
        check(critical(), Level::Critical, &[], &["default"]);
        let nested = route("", &["cluster=prod"], None, vec![route("b", &[], Some(Level::Low), vec![])]);
        check(route("default", &[], None, vec![nested]), Level::Low, &[], &["b"]);
    }

    #[test]
    fn a_tree_without_receivers_notifies_nobody_and_a_receiver_is_named_once() {
        check(Route::default(), Level::Critical, &[], &[]);
        let both = || {
            let child = Route { continue_matching: true, ..route("a", &[], None, vec![]) };
            route("default", &[], None, vec![child.clone(), child])
        };
        check(both(), Level::High, &[], &["a"]);
    }

    #[test]
    fn trees_that_cannot_work_are_refused() {
        let refuse = |root, expect| assert_eq!(Router::new(root, &["a"]).unwrap_err(), expect);
        refuse(route("x", &[], None, vec![]), RouteError::UnknownReceiver("x".to_owned()));
        refuse(route("a", &["cluster=x"], None, vec![]), RouteError::RootMatches);
        refuse(route("a", &[], None, vec![Route::default(); MAX_ROUTES]), RouteError::TooMany);
        let deep = (0..=MAX_DEPTH).fold(Route::default(), |child, _| route("", &[], None, vec![child]));
        refuse(deep, RouteError::TooDeep);
    }
}
