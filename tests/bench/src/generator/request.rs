//! One request as the events of its stages, each sized as the profile says.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::object::{self, Subject, size};
use super::profile::Row;
use super::resource::Resource;
use super::template::{AUDIT_ID, Draft, RECEIVED, STAGED, Token, TokenKind};
use super::world::World;
use crate::random::Random;

/// An event in the field order of the API server.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    level: &'static str,
    #[serde(rename = "auditID")]
    audit_id: &'static str,
    stage: &'static str,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: &'static str,
    user: Value,
    #[serde(rename = "sourceIPs")]
    source_ips: [String; 1],
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_object: Option<Value>,
    request_received_timestamp: &'static str,
    stage_timestamp: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// What a request is about, and the texts in it that are new every time it is sent.
struct Target {
    resource: Option<Resource>,
    namespace: Option<String>,
    name: String,
    /// The list or the collection is asked for, not one object.
    unnamed: bool,
    uid: String,
    version: String,
    image: String,
}

/// The events of one request of the kind that the row describes.
pub(crate) fn draft(row: &Row, world: &World, random: &mut Random) -> Draft {
    let caller = Caller::draw(*random.pick(row.callers), world, random);
    let mut draft = Draft::default();
    let target = Target::draw(row, &caller, world, &mut draft.tokens, random);
    let quantile = random.unit();
    let mut event = first_event(row, &caller, &target, random);
    let first_size = row.received.as_ref().unwrap_or(&row.answered).at(quantile);
    lengthen(&mut event, caller.extra.as_ref(), first_size, random);
    if row.received.is_some() {
        draft.push(0, &event);
    }
    answer(&mut event, row, &caller, &target);
    fill(&mut event, row, &caller, &target, row.answered.at(quantile), random);
    let mut delay_micros = 0;
    for stage in &row.answers {
        delay_micros += u32::try_from(random.between(900, 24_000)).unwrap_or(0);
        event.stage = stage;
        draft.push(delay_micros, &event);
    }
    draft
}

impl Draft {
    fn push(&mut self, delay_micros: u32, event: &Event) {
        // Fields of plain texts and numbers always serialise.
        self.events.push((delay_micros, serde_json::to_string(event).unwrap_or_default()));
    }
}

impl Target {
    fn draw(row: &Row, caller: &Caller, world: &World, tokens: &mut Vec<Token>, random: &mut Random) -> Self {
        let mut fresh = |text: String, kind| {
            tokens.push(Token { text: text.clone(), kind });
            text
        };
        let workload = match caller.workload {
            Some(own) if random.chance(70) => &world.workloads[own],
            _ => random.pick(&world.workloads),
        };
        let resource = row.resource.and_then(Resource::find);
        let name = match row.resource {
            Some("nodes") => world.nodes[caller.node.unwrap_or(workload.node)].name.clone(),
            Some("namespaces") => workload.namespace.clone(),
            Some("leases") => match caller.node {
                Some(node) => world.nodes[node].name.clone(),
                None => format!("{}-leader", workload.name),
            },
            Some("pods") if row.verb == "create" => {
                format!(
                    "{}-{}-{}",
                    workload.name,
                    workload.template_hash,
                    fresh(random.word(5), TokenKind::Word)
                )
            }
            Some("pods") => workload.pod(),
            Some("events") => format!("{}.{}", workload.pod(), fresh(random.word(16), TokenKind::Word)),
            Some("replicasets") => format!("{}-{}", workload.name, workload.template_hash),
            Some("secrets") => format!("{}-credentials", workload.name),
            Some("configmaps") => format!("{}-config", workload.name),
            _ => workload.name.clone(),
        };
        let everywhere = matches!(row.verb, "list" | "watch") && random.chance(60);
        let namespaced = resource.is_some_and(|resource| resource.namespaced) && !everywhere;
        Self {
            resource,
            namespace: namespaced.then(|| match (row.resource, caller.node) {
                (Some("leases"), Some(_)) => "kube-node-lease".to_owned(),
                _ => workload.namespace.clone(),
            }),
            unnamed: matches!(row.verb, "list" | "watch"),
            uid: fresh(random.uuid(), TokenKind::Uuid),
            version: fresh(format!("7{:09}", random.below(1_000_000_000)), TokenKind::Digits),
            image: workload.image.clone(),
            name,
        }
    }

    fn uri(&self, row: &Row, random: &mut Random) -> String {
        const PATHS: [&str; 6] =
            ["/readyz", "/livez", "/version", "/openapi/v3", "/apis", "/healthz?timeout=32s"];
        let Some(resource) = self.resource else { return (*random.pick(&PATHS)).to_owned() };
        let path = resource.path(self.namespace.as_deref());
        let subresource = row.subresource.map(|name| format!("/{name}")).unwrap_or_default();
        match row.verb {
            "watch" => {
                let seconds = random.between(300, 600);
                format!(
                    "{path}?allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={seconds}&watch=true",
                    self.version
                )
            }
            "list" => format!("{path}?limit=500"),
            "create" if subresource.is_empty() => format!("{path}?timeout=10s"),
            _ if row.subresource == Some("exec") => {
                format!(
                    "{path}/{}/exec?command=sh&container={}&stdin=true&stdout=true&tty=true",
                    self.name, "app"
                )
            }
            _ => format!("{path}/{}{subresource}", self.name),
        }
    }

    fn reference(&self, row: &Row) -> Option<Value> {
        let resource = self.resource?;
        let mut reference = json!({"resource": resource.plural, "apiVersion": resource.version});
        let writes = matches!(row.verb, "update" | "patch");
        let fields = [
            ("namespace", self.namespace.as_deref()),
            ("name", Some(self.name.as_str()).filter(|_| !self.unnamed)),
            ("apiGroup", Some(resource.group).filter(|group| !group.is_empty())),
            ("subresource", row.subresource),
            ("uid", Some(self.uid.as_str()).filter(|_| writes)),
            ("resourceVersion", Some(self.version.as_str()).filter(|_| row.verb == "update")),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                reference[field] = json!(value);
            }
        }
        Some(reference)
    }

    fn subject(&self) -> Option<Subject<'_>> {
        Some(Subject {
            resource: self.resource?,
            namespace: self.namespace.as_deref(),
            name: &self.name,
            uid: &self.uid,
            version: &self.version,
            image: &self.image,
        })
    }
}

fn first_event(row: &Row, caller: &Caller, target: &Target, random: &mut Random) -> Event {
    Event {
        level: row.level,
        audit_id: AUDIT_ID,
        stage: "RequestReceived",
        request_uri: target.uri(row, random),
        verb: row.verb,
        user: caller.user.clone(),
        source_ips: [caller.address.clone()],
        user_agent: caller.user_agent.clone(),
        object_ref: target.reference(row),
        response_status: None,
        request_object: None,
        response_object: None,
        request_received_timestamp: RECEIVED,
        stage_timestamp: STAGED,
        annotations: BTreeMap::new(),
    }
}

/// Adds what newer API servers and selective clients add, as far as the size allows.
fn lengthen(event: &mut Event, extra: Option<&Value>, bytes: usize, random: &mut Random) {
    const TOLERANCE_BYTES: usize = 60;
    const MAX_SELECTOR_BYTES: usize = 300;
    let room = bytes.saturating_sub(size(&json!(event)));
    if let Some(extra) = extra
        && size(extra) < room + TOLERANCE_BYTES
    {
        event.user["extra"] = extra.clone();
    }
    let room = bytes.saturating_sub(size(&json!(event))).min(MAX_SELECTOR_BYTES);
    let parameter = if event.verb == "get" || event.verb == "list" || event.verb == "watch" {
        "labelSelector=app.kubernetes.io%2Fname%3D"
    } else {
        "fieldValidation=Strict&fieldManager="
    };
    if room > parameter.len() + 4 {
        event.request_uri.push(if event.request_uri.contains('?') { '&' } else { '?' });
        event.request_uri.push_str(parameter);
        event.request_uri.push_str(&object::text(room - parameter.len() - 1, random).replace(' ', "."));
    }
}

/// The parts that only later stages have: status and authorization.
fn answer(event: &mut Event, row: &Row, caller: &Caller, target: &Target) {
    let failure = |message: &str, reason: &str| {
        json!({"metadata": {}, "status": "Failure", "message": message, "reason": reason,
        "details": {"kind": target.resource.map(|resource| resource.plural)}, "code": row.code})
    };
    let kind = target.resource.map_or("", |resource| resource.plural);
    let group = target.resource.map_or("", |resource| resource.group);
    let status = match row.code {
        401 => json!({"metadata": {}, "status": "Failure", "reason": "Unauthorized", "code": 401,
            "message": "Authentication failed, attempted: bearer"}),
        403 => {
            let user = caller.username();
            let verb = row.verb;
            let place = match &target.namespace {
                Some(namespace) => format!("in the namespace \"{namespace}\""),
                None => "at the cluster scope".to_owned(),
            };
            failure(
                &format!(
                    "{kind} is forbidden: User \"{user}\" cannot {verb} resource \"{kind}\" in API group \"{group}\" {place}"
                ),
                "Forbidden",
            )
        }
        404 => failure(&format!("{kind} \"{}\" not found", target.name), "NotFound"),
        409 => failure(&format!("{kind} \"{}\" already exists", target.name), "AlreadyExists"),
        code => json!({"metadata": {}, "code": code}),
    };
    if row.level == "RequestResponse" && row.code >= 400 {
        let mut body = status.clone();
        body["kind"] = json!("Status");
        body["apiVersion"] = json!("v1");
        event.response_object = Some(body);
    }
    event.response_status = Some(status);
    let decision = if row.code == 403 { "forbid" } else { "allow" };
    if row.code != 401 {
        event.annotations.insert("authorization.k8s.io/decision".to_owned(), decision.to_owned());
        event.annotations.insert("authorization.k8s.io/reason".to_owned(), String::new());
    }
    if row.resource == Some("pods") && row.verb == "create" {
        let policy = ("pod-security.kubernetes.io/enforce-policy".to_owned(), "privileged:latest".to_owned());
        event.annotations.extend([policy]);
    }
}

/// Brings the event to its size: the reason of the decision, bodies, the traces of admission webhooks.
fn fill(event: &mut Event, row: &Row, caller: &Caller, target: &Target, bytes: usize, random: &mut Random) {
    let room = |event: &Event| bytes.saturating_sub(size(&json!(event)));
    let reason = format!("RBAC: allowed by {}", caller.role);
    if !caller.role.is_empty() && row.code < 400 && reason.len() < room(event) + 60 {
        event.annotations.insert("authorization.k8s.io/reason".to_owned(), reason);
    }
    if let (Some(subject), "RequestResponse") = (target.subject(), row.level) {
        add_bodies(event, row, &subject, room(event), random);
        return;
    }
    // What is in front of these two names is about as long as a short configuration's name.
    for round in 0..4 {
        let room = room(event);
        if row.code >= 400 || matches!(row.verb, "get" | "list" | "watch") || room < 190 {
            break;
        }
        let hook = object::text((room - 180).min(40), random).replace(' ', "-");
        let trace = json!({"configuration": format!("{hook}-defaults"), "webhook": format!("{hook}.example.com"), "mutated": false});
        let key = format!("mutation.webhook.admission.k8s.io/round_0_index_{round}");
        event.annotations.insert(key, trace.to_string());
    }
}

fn add_bodies(event: &mut Event, row: &Row, subject: &Subject<'_>, room: usize, random: &mut Random) {
    let room = room.saturating_sub(36);
    let failed = row.code >= 400;
    let request_bytes = match row.verb {
        "create" | "update" if failed => room,
        "create" => room * 2 / 5,
        "update" => room / 2,
        "patch" => (room / 5).min(1_200),
        "delete" => 90,
        _ => 0,
    };
    event.request_object = match row.verb {
        "delete" => {
            Some(json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}))
        }
        _ if request_bytes > 0 => Some(object::sent(subject, request_bytes, random)),
        _ => None,
    };
    if !failed {
        let room = room.saturating_sub(event.request_object.as_ref().map_or(0, size));
        let build = if row.verb == "list" { object::list } else { object::stored };
        event.response_object = Some(build(subject, room, random));
    }
}
