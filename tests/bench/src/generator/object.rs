//! Request and response bodies: objects of the Kubernetes API, grown until they have a wanted size.

use serde_json::{Map, Value, json};

use super::resource::Resource;
use crate::random::Random;

/// The object that a body describes.
pub(crate) struct Subject<'a> {
    pub(crate) resource: Resource,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) version: &'a str,
    pub(crate) image: &'a str,
}

/// Largest item of a generated list, in bytes.
const MAX_ITEM_BYTES: usize = 6_000;
/// What one environment variable, rule or data entry takes at most, in bytes.
const MAX_ENTRY_BYTES: usize = 220;
/// Smaller rests are left.
const MIN_REST_BYTES: usize = 24;

/// An object of about `bytes` bytes as the client sends it.
pub(crate) fn sent(subject: &Subject<'_>, bytes: usize, random: &mut Random) -> Value {
    let mut object = skeleton(subject, bytes, random);
    grow(&mut object, bytes, random);
    object
}

/// An object of about `bytes` bytes as the API server keeps it: with uid, version and managed fields.
pub(crate) fn stored(subject: &Subject<'_>, bytes: usize, random: &mut Random) -> Value {
    let mut object = skeleton(subject, bytes, random);
    let metadata = &mut object["metadata"];
    metadata["uid"] = json!(subject.uid);
    metadata["resourceVersion"] = json!(subject.version);
    metadata["creationTimestamp"] = json!("2026-03-02T09:14:27Z");
    if bytes > 900 {
        metadata["managedFields"] = managed_fields(bytes / 4, random);
    }
    grow(&mut object, bytes, random);
    object
}

/// A list of objects with about `bytes` bytes together.
pub(crate) fn list(subject: &Subject<'_>, bytes: usize, random: &mut Random) -> Value {
    let mut items = Vec::new();
    let mut room = bytes.saturating_sub(120);
    while room > 300 {
        let wanted =
            if room < MAX_ITEM_BYTES { room } else { random.between(MAX_ITEM_BYTES / 2, MAX_ITEM_BYTES) };
        let (name, uid) = (format!("{}-{}", subject.name, random.word(5)), random.uuid());
        let item = stored(&Subject { name: &name, uid: &uid, ..*subject }, wanted - 1, random);
        room = room.saturating_sub(size(&item) + 1);
        items.push(item);
    }
    let metadata = json!({"resourceVersion": subject.version});
    let kind = format!("{}List", subject.resource.kind);
    json!({"kind": kind, "apiVersion": subject.resource.api_version(), "metadata": metadata, "items": items})
}

fn skeleton(subject: &Subject<'_>, bytes: usize, random: &mut Random) -> Value {
    let Subject { resource, namespace, name, image, .. } = *subject;
    let app = name.split('-').take(2).collect::<Vec<_>>().join("-");
    let labels = json!({"app.kubernetes.io/name": app, "app.kubernetes.io/managed-by": "Helm"});
    let mut object =
        json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": {"name": name}});
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    if bytes > 500 {
        object["metadata"]["labels"] = labels.clone();
    }
    match resource.kind {
        "Pod" if bytes > 1_200 => {
            object["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app,
                "uid": random.uuid(), "controller": true, "blockOwnerDeletion": true}]);
            object["spec"] = pod_spec(&app, image, random);
            object["status"] = json!({"phase": "Running", "qosClass": "Burstable",
                "hostIP": format!("10.0.{}.{}", random.below(3), random.between(10, 200)),
                "podIP": format!("10.244.{}.{}", random.below(120), random.between(2, 250))});
        }
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" if bytes > 1_200 => {
            object["spec"] = json!({"replicas": random.between(1, 12), "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod_spec(&app, image, random)}});
        }
        "RoleBinding" | "ClusterRoleBinding" => {
            object["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": app});
            object["subjects"] = json!([{"kind": "ServiceAccount", "name": app, "namespace": namespace}]);
        }
        "Secret" => object["type"] = json!("Opaque"),
        _ => {}
    }
    object
}

fn pod_spec(app: &str, image: &str, random: &mut Random) -> Value {
    json!({
        "serviceAccountName": app, "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 300}],
        "volumes": [{"name": "config", "configMap": {"name": format!("{app}-config"), "defaultMode": 420}}],
        "containers": [container(app, image, random)],
    })
}

fn container(name: &str, image: &str, random: &mut Random) -> Value {
    json!({
        "name": name, "image": image, "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": 8_000 + random.below(100), "protocol": "TCP"}],
        "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/app", "readOnly": true}],
        "env": [],
    })
}

/// Adds what objects of the kind have many of until the object has the wanted size.
fn grow(object: &mut Value, bytes: usize, random: &mut Random) {
    let mut room = bytes.saturating_sub(size(object) + MIN_REST_BYTES);
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    while room > MIN_REST_BYTES {
        let wanted = room.min(MAX_ENTRY_BYTES);
        let added = match kind.as_str() {
            "Pod" if object["spec"].is_object() => {
                add_variable(&mut object["spec"]["containers"], wanted, random)
            }
            "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" if object["spec"].is_object() => {
                add_variable(&mut object["spec"]["template"]["spec"]["containers"], wanted, random)
            }
            "ConfigMap" => add_entry(&mut object["data"], setting(random), text(wanted, random)),
            "Secret" => add_entry(&mut object["data"], setting(random), secret(wanted, random)),
            "Role" | "ClusterRole" => add_rule(&mut object["rules"], random),
            _ => add_entry(&mut object["metadata"]["annotations"], annotation(random), text(wanted, random)),
        };
        room = room.saturating_sub(added);
    }
}

/// A variable in the last container; from time to time another container.
fn add_variable(containers: &mut Value, wanted: usize, random: &mut Random) -> usize {
    const MAX_VARIABLES: usize = 24;
    let Some(containers) = containers.as_array_mut() else { return wanted };
    let Some(variables) = containers.last_mut().and_then(|last| last["env"].as_array_mut()) else {
        return wanted;
    };
    if variables.len() < MAX_VARIABLES || wanted < MAX_ENTRY_BYTES {
        let name = setting(random).to_uppercase().replace(['.', '-'], "_");
        let variable = json!({"name": name, "value": text(wanted.saturating_sub(40).min(90), random)});
        let added = size(&variable) + 1;
        variables.push(variable);
        return added;
    }
    let name = format!("sidecar-{}", containers.len());
    let image = format!("registry.example.internal/{name}@sha256:{}", random.hex(64));
    let container = container(&name, &image, random);
    let added = size(&container) + 1;
    containers.push(container);
    added
}

fn add_entry(map: &mut Value, key: String, value: String) -> usize {
    if !map.is_object() {
        *map = Value::Object(Map::new());
    }
    // Two keys that happen to be equal would not grow the object.
    let key =
        if map.get(&key).is_some() { format!("{key}.{}", map.as_object().map_or(0, Map::len)) } else { key };
    let added = key.len() + value.len() + 6;
    map[key] = Value::String(value);
    added
}

fn add_rule(rules: &mut Value, random: &mut Random) -> usize {
    const RESOURCES: [&str; 7] =
        ["pods", "configmaps", "services", "endpoints", "deployments", "jobs", "persistentvolumeclaims"];
    let rule = json!({"apiGroups": ["", "apps"], "resources": [random.pick(&RESOURCES), random.pick(&RESOURCES)],
        "verbs": ["get", "list", "watch"]});
    let added = size(&rule) + 1;
    match rules.as_array_mut() {
        Some(rules) => rules.push(rule),
        None => *rules = json!([rule]),
    }
    added
}

fn managed_fields(bytes: usize, random: &mut Random) -> Value {
    let mut fields = Map::new();
    let mut room = bytes.saturating_sub(200);
    while room > 60 {
        let key = format!("f:{}", setting(random));
        room = room.saturating_sub(key.len() + 28);
        fields.insert(key, json!({".": {}, "f:name": {}, "f:value": {}}));
    }
    json!([{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
        "time": "2026-03-02T09:14:27Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields}}])
}

const WORDS: [&str; 32] = [
    "http", "timeout", "retry", "cache", "queue", "broker", "primary", "replica", "enabled", "limit", "pool",
    "token", "region", "bucket", "topic", "group", "level", "format", "prefix", "shard", "batch", "window",
    "metrics", "trace", "leader", "session", "storage", "billing", "orders", "cluster", "ingress", "feature",
];

/// The name of a setting; there are about thirty thousand.
fn setting(random: &mut Random) -> String {
    format!("{}.{}-{}", random.pick(&WORDS), random.pick(&WORDS), random.pick(&WORDS))
}

fn annotation(random: &mut Random) -> String {
    format!("{}.example.com/{}", random.pick(&WORDS), random.pick(&WORDS))
}

/// Words and numbers of about `bytes` bytes.
pub(crate) fn text(bytes: usize, random: &mut Random) -> String {
    let mut text = String::with_capacity(bytes);
    while text.len() < bytes {
        if !text.is_empty() {
            text.push(if random.chance(30) { ' ' } else { '-' });
        }
        if random.chance(15) {
            text.push_str(&random.below(100_000).to_string());
        } else {
            let word = *random.pick(&WORDS);
            text.push_str(word);
        }
    }
    text.truncate(bytes);
    text
}

/// Text that looks like base64.
fn secret(bytes: usize, random: &mut Random) -> String {
    format!("{}==", random.word(bytes.saturating_sub(14).max(4) / 4 * 4 + 2))
}

pub(crate) fn size(value: &Value) -> usize {
    serde_json::to_vec(value).map_or(0, |text| text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_reach_the_wanted_size() {
        let mut random = Random::new(1);
        let mut check = |plural, bytes: usize, build: fn(&Subject<'_>, usize, &mut Random) -> Value| {
            let subject = Subject {
                resource: Resource::find(plural).unwrap(),
                namespace: Some("prod"),
                name: "payments-api-x",
                uid: "u",
                version: "1",
                image: "i",
            };
            let body = build(&subject, bytes, &mut random);
            let reached = size(&body);
            assert!(reached.abs_diff(bytes) < 150 + bytes / 20, "{plural}: {reached}, not {bytes}\n{body}");
            assert!(body["metadata"].is_object());
        };
        for bytes in [1_000, 4_000, 12_000] {
            for plural in ["pods", "deployments", "configmaps", "secrets", "serviceaccounts", "roles"] {
                check(plural, bytes, stored);
                check(plural, bytes, sent);
            }
        }
        for bytes in [600, 5_000, 66_000] {
            check("pods", bytes, list);
            check("secrets", bytes, list);
        }
    }
}
