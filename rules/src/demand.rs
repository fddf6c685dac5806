//! What a rule asks of the audit policy: on which requests it may match, and what must be logged of them.
//!
//! The requests are made of the values that the rule compares to. On each of them the rule is decided with what the
//! request fixes (verb, object, user, stage); everything else is taken as it suits the rule. A rule that may match on
//! none of them cannot match at all.

use std::collections::BTreeSet;

use watchbell_event::Format;

use crate::audit_policy::{AuditLevel, Request, Resource, STAGES};
use crate::correlate;
use crate::formula::{Bodies, Body, Check, Field, Formula, ITSELF, Test};
use crate::pattern::{Pattern, Piece};
use crate::rule::Rule;
use crate::schema;

/// Most requests that one rule is tried on; with more, its list is cut.
const MAX_SHAPES: usize = 30_000;
/// Most values of one field that are tried.
const MAX_VALUES: usize = 40;
/// What can be done to resources: tried where a rule names no verb.
pub(crate) const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Those whose requests have bodies that rules read.
const WRITES: [&str; 3] = ["create", "patch", "update"];
/// A user of whom nothing else is known.
const SOMEBODY: &str = "somebody";
/// What stands for names and namespaces that no rule names.
const SOMETHING: &str = "something";
/// A resource that Kubernetes itself does not serve.
pub(crate) const OTHER_RESOURCE: &str = "others";
/// The group of that resource.
pub(crate) const OTHER_GROUP: &str = "example.com";

/// A kind of request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) verb: String,
    /// What it is about: none for a path.
    pub(crate) object: Option<Object>,
    pub(crate) path: String,
    pub(crate) user: String,
    /// A group besides that of everybody who is known.
    pub(crate) group: Option<String>,
    pub(crate) stage: String,
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Object {
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
}

/// A request on which a rule may match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) shape: Shape,
    /// The least level at which it may.
    pub(crate) level: AuditLevel,
    /// The least level at which every part of it that may matter here can be decided.
    pub(crate) whole: AuditLevel,
}

/// The requests on which a rule may match.
pub(crate) struct Demands {
    pub(crate) demands: Vec<Demand>,
    /// There were more requests than are tried.
    pub(crate) cut: bool,
}

impl Demands {
    /// Whether the rule can match no request at all.
    pub(crate) fn are_none(&self) -> bool {
        self.demands.is_empty() && !self.cut
    }
}

impl Shape {
    /// As a policy sees it.
    pub(crate) fn request(&self) -> Request<'_> {
        let mut groups = vec!["system:authenticated"];
        if self.user.starts_with("system:serviceaccount:") {
            groups.push("system:serviceaccounts");
        }
        groups.extend(self.group.as_deref());
        Request {
            user: Some(&self.user),
            groups,
            verb: &self.verb,
            resource: self.object.as_ref().map(|object| Resource {
                group: &object.group,
                resource: &object.resource,
                subresource: object.subresource.as_deref().unwrap_or_default(),
                namespace: object.namespace.as_deref().unwrap_or_default(),
                name: object.name.as_deref().unwrap_or_default(),
            }),
            path: &self.path,
        }
    }

    /// For people: `create pods/exec`.
    pub(crate) fn describe(&self) -> String {
        match &self.object {
            None => format!("{} {}", self.verb, self.path),
            Some(object) => {
                let subresource =
                    object.subresource.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
                format!("{} {}{subresource}", self.verb, object.resource)
            }
        }
    }

    /// The values that the request fixes at a path; none if it leaves them open.
    fn values(&self, path: &str) -> Option<Vec<&str>> {
        let object = self.object.as_ref();
        let of_object = |value: fn(&Object) -> Option<&String>| {
            Some(object.and_then(value).map(String::as_str).into_iter().collect())
        };
        match path {
            "verb" | "event.action" => Some(vec![&self.verb]),
            "stage" => Some(vec![&self.stage]),
            "objectRef.resource" | "orchestrator.resource.type" => of_object(|object| Some(&object.resource)),
            "objectRef.apiGroup" => of_object(|object| Some(&object.group).filter(|group| !group.is_empty())),
            "objectRef.subresource" => of_object(|object| object.subresource.as_ref()),
            "objectRef.namespace" | "orchestrator.namespace" => of_object(|object| object.namespace.as_ref()),
            "objectRef.name" | "orchestrator.resource.name" => of_object(|object| object.name.as_ref()),
            "user.username" => Some(vec![&self.user]),
            "requestURI" if object.is_none() => Some(vec![&self.path]),
            _ if path.starts_with("objectRef.") && object.is_none() => Some(Vec::new()),
            _ => None,
        }
    }
}

/// For each rule, the requests on which it may match, and what it and the correlations over it read of them. None for a
/// correlation, whose matches come from those of other rules, and for a rule that looks at log lines.
pub(crate) fn demands_of(rules: &[Rule]) -> Vec<Option<Demands>> {
    let (plan, _) = correlate::link(rules);
    let of_rule = |(index, rule): (usize, &Rule)| {
        let fields = plan.fields_read(index).filter_map(|name| Field::path(name).ok()?.body());
        let read = fields.fold(Bodies::default(), Bodies::with);
        let is_about_requests = !rule.is_correlation() && rule.format == Format::KubernetesAudit;
        is_about_requests.then(|| demands(&rule.formula, read))
    };
    rules.iter().enumerate().map(of_rule).collect()
}

/// The requests on which a rule of this formula may match, where these bodies are read, too, whatever it decides.
fn demands(formula: &Formula, read: Bodies) -> Demands {
    let choices = Choices::new(formula);
    let (shapes, cut) = choices.shapes();
    let mut demands = Vec::new();
    for shape in shapes {
        let levels = [AuditLevel::Metadata, AuditLevel::Request, AuditLevel::RequestResponse];
        if let Some(level) = levels.into_iter().find(|level| may_hold(formula, true, &shape, *level)) {
            // A rule that reads a body and names neither verb nor object is about requests that have one.
            let writes = choices.names_verbs || WRITES.contains(&shape.verb.as_str());
            let has_body = writes && shape.object.is_some();
            let level = if has_body { level.max(least_level(read)) } else { level };
            if level == AuditLevel::Metadata || has_body {
                let whole = if has_body { whole(formula, true, &shape) } else { None };
                demands.push(Demand { level, whole: whole.unwrap_or(level).max(level), shape });
            }
        }
    }
    Demands { demands, cut }
}

/// The least level at which these bodies are logged.
fn least_level(bodies: Bodies) -> AuditLevel {
    if bodies.has(Body::Response) {
        AuditLevel::RequestResponse
    } else if bodies.has(Body::Request) {
        AuditLevel::Request
    } else {
        AuditLevel::Metadata
    }
}

/// Whether a formula, or its negation, may hold on a request of which so much is logged.
fn may_hold(formula: &Formula, sign: bool, shape: &Shape, level: AuditLevel) -> bool {
    match (formula, sign) {
        (Formula::Not(part), _) => may_hold(part, !sign, shape, level),
        (Formula::All(parts), true) | (Formula::Any(parts), false) => {
            parts.iter().all(|part| may_hold(part, sign, shape, level))
        }
        (Formula::Any(parts), true) | (Formula::All(parts), false) => {
            parts.iter().any(|part| may_hold(part, sign, shape, level))
        }
        (Formula::Test(test), _) => test_may_hold(test, sign, shape, level),
    }
}

/// The level that decides every test of what may hold on a request; none if it cannot hold.
fn whole(formula: &Formula, sign: bool, shape: &Shape) -> Option<AuditLevel> {
    match (formula, sign) {
        (Formula::Not(part), _) => whole(part, !sign, shape),
        (Formula::All(parts), true) | (Formula::Any(parts), false) => {
            let levels: Option<Vec<_>> = parts.iter().map(|part| whole(part, sign, shape)).collect();
            Some(levels?.into_iter().max().unwrap_or(AuditLevel::Metadata))
        }
        (Formula::Any(parts), true) | (Formula::All(parts), false) => {
            parts.iter().filter_map(|part| whole(part, sign, shape)).max()
        }
        (Formula::Test(test), _) => {
            let may_hold = test_may_hold(test, sign, shape, AuditLevel::RequestResponse);
            may_hold.then(|| least_level(test.bodies()))
        }
    }
}

fn test_may_hold(test: &Test, sign: bool, shape: &Shape, level: AuditLevel) -> bool {
    let bodies = test.bodies();
    if level < least_level(bodies) {
        return false;
    }
    if bodies.has(Body::Response) {
        return shape.stage == "ResponseComplete";
    }
    if bodies.has(Body::Request) {
        return shape.stage != "RequestReceived";
    }
    if test.fields().any(|field| !schema::has(field)) {
        return !sign;
    }
    match (&test.field, &test.check) {
        // What these come to depends on more than the value of one field.
        (_, Check::Reference(_) | Check::Members(_)) | (Field::Anywhere | Field::Derived(_), _) => true,
        (Field::Path(path), check) => shape.values(path).is_none_or(|values| holds(check, &values) == sign),
    }
}

fn holds(check: &Check, values: &[&str]) -> bool {
    let mut buffer = String::new();
    values.iter().any(|value| check.holds_for(value, &mut buffer))
}

/// Values to try for each part of a request.
struct Choices {
    names_verbs: bool,
    verbs: Vec<String>,
    resources: Vec<String>,
    groups: Vec<String>,
    subresources: Vec<Option<String>>,
    namespaces: Vec<Option<String>>,
    names: Vec<Option<String>>,
    users: Vec<String>,
    user_groups: Vec<Option<String>>,
    stages: Vec<String>,
    paths: Vec<String>,
}

impl Choices {
    fn new(formula: &Formula) -> Self {
        let named = |paths: &[&str]| samples(formula, paths);
        let or = |mut values: Vec<String>, default: &str| {
            if values.is_empty() {
                values.push(default.to_owned());
            }
            values
        };
        // What is not there is tried as well, as rules may ask for that.
        let with_none = |mut values: Vec<String>, default: Option<&str>| {
            values.extend(default.map(str::to_owned));
            values.into_iter().map(Some).chain([None]).collect::<Vec<_>>()
        };
        Self {
            names_verbs: !named(&["verb", "event.action"]).is_empty(),
            verbs: match named(&["verb", "event.action"]) {
                verbs if verbs.is_empty() => VERBS.map(str::to_owned).into(),
                verbs => verbs,
            },
            resources: or(named(&["objectRef.resource", "orchestrator.resource.type"]), OTHER_RESOURCE),
            groups: named(&["objectRef.apiGroup"]),
            subresources: with_none(named(&["objectRef.subresource"]), None),
            namespaces: with_none(named(&["objectRef.namespace", "orchestrator.namespace"]), Some(SOMETHING)),
            names: with_none(named(&["objectRef.name", "orchestrator.resource.name"]), Some(SOMETHING)),
            users: named(&["user.username"]).into_iter().chain([SOMEBODY.to_owned()]).collect(),
            user_groups: with_none(named(&["user.groups"]), None),
            stages: or(named(&["stage"]).iter().map(|stage| spelt(stage)).collect(), "ResponseComplete"),
            paths: named(&["requestURI"]).into_iter().chain(["/something".to_owned()]).collect(),
        }
    }

    /// The requests that these make, and whether there are more.
    fn shapes(&self) -> (BTreeSet<Shape>, bool) {
        let mut shapes = BTreeSet::new();
        for (verb, user, group, stage) in self.subjects() {
            let shape = |object, path: &str| Shape {
                verb: verb.clone(),
                object,
                path: path.to_owned(),
                user: user.clone(),
                group: group.clone(),
                stage: stage.clone(),
            };
            shapes.extend(self.paths.iter().map(|path| shape(None, path)));
            for object in self.objects() {
                if shapes.len() >= MAX_SHAPES {
                    return (shapes, true);
                }
                shapes.insert(shape(Some(object), ""));
            }
        }
        (shapes, false)
    }

    fn subjects(&self) -> impl Iterator<Item = (&String, &String, &Option<String>, &String)> {
        let verbs = self.verbs.iter();
        verbs.flat_map(move |verb| {
            let users = self.users.iter();
            users.flat_map(move |user| {
                let groups = self.user_groups.iter();
                groups.flat_map(move |group| self.stages.iter().map(move |stage| (verb, user, group, stage)))
            })
        })
    }

    fn objects(&self) -> impl Iterator<Item = Object> {
        self.resources.iter().flat_map(move |resource| {
            let groups = self.groups_of(resource).into_iter();
            groups.flat_map(move |group| self.objects_of(group, resource))
        })
    }

    /// The groups that a rule gives, or that of the resource.
    fn groups_of(&self, resource: &str) -> Vec<String> {
        if self.groups.is_empty() {
            return vec![schema::group_of(resource).unwrap_or(OTHER_GROUP).to_owned()];
        }
        self.groups.clone()
    }

    fn objects_of(&self, group: String, resource: &str) -> impl Iterator<Item = Object> {
        let resource = resource.to_owned();
        self.subresources.iter().flat_map(move |subresource| {
            let (group, resource) = (group.clone(), resource.clone());
            self.namespaces.iter().flat_map(move |namespace| {
                let (group, resource) = (group.clone(), resource.clone());
                self.names.iter().map(move |name| Object {
                    group: group.clone(),
                    resource: resource.clone(),
                    subresource: subresource.clone(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                })
            })
        })
    }
}

/// A stage as the API server writes it.
fn spelt(stage: &str) -> String {
    let known = STAGES.into_iter().find(|known| known.eq_ignore_ascii_case(stage));
    known.unwrap_or(stage).to_owned()
}

/// Values that satisfy what a rule compares these fields to, outside of negations.
fn samples(formula: &Formula, paths: &[&str]) -> Vec<String> {
    let mut found = Samples::default();
    found.collect(formula, true, paths);
    found.into_texts()
}

/// Texts by the part of a value that they are.
#[derive(Default)]
struct Samples {
    whole: BTreeSet<String>,
    starts: BTreeSet<String>,
    middles: BTreeSet<String>,
    ends: BTreeSet<String>,
}

impl Samples {
    fn collect(&mut self, formula: &Formula, sign: bool, paths: &[&str]) {
        match formula {
            Formula::All(parts) | Formula::Any(parts) => {
                parts.iter().for_each(|part| self.collect(part, sign, paths));
            }
            Formula::Not(part) => self.collect(part, !sign, paths),
            Formula::Test(test) if !paths.iter().any(|path| test.field.is(path)) => {}
            Formula::Test(test) => match &test.check {
                Check::Members(members) => self.collect(&members.body, sign, &[ITSELF]),
                check if sign => self.add(check),
                _ => {}
            },
        }
    }

    fn add(&mut self, check: &Check) {
        let (Check::Folded(pattern) | Check::Cased(pattern)) = check else { return };
        let (texts, text) = match pattern {
            Pattern::Any => (&mut self.whole, SOMETHING.to_owned()),
            Pattern::Exact(text) => (&mut self.whole, text.clone()),
            Pattern::Prefix(text) => (&mut self.starts, text.clone()),
            Pattern::Suffix(text) => (&mut self.ends, text.clone()),
            Pattern::Contains(text) => (&mut self.middles, text.clone()),
            Pattern::Glob(pieces) => (&mut self.whole, pieces.iter().map(literal).collect()),
        };
        if texts.len() < MAX_VALUES {
            texts.insert(text);
        }
    }

    /// The whole texts, and the parts one by one and together: a rule may ask for a start and an end at once.
    fn into_texts(self) -> Vec<String> {
        let optional = |texts: &BTreeSet<String>| {
            std::iter::once(String::new()).chain(texts.iter().cloned()).collect::<Vec<_>>()
        };
        let mut texts = self.whole;
        for start in optional(&self.starts) {
            for middle in optional(&self.middles) {
                for end in optional(&self.ends) {
                    texts.insert(format!("{start}{middle}{end}"));
                    if texts.len() > MAX_VALUES {
                        return texts.into_iter().filter(|text| !text.is_empty()).collect();
                    }
                }
            }
        }
        texts.into_iter().filter(|text| !text.is_empty()).collect()
    }
}

fn literal(piece: &Piece) -> &str {
    match piece {
        Piece::Literal(text) => text,
        Piece::AnyText => "",
        Piece::OneCharacter => "x",
    }
}
