//! Which level a request gets, what is refused, and that generated policies feed their rules.

use super::*;
use crate::{FindingKind, Lists, library, lint, load};

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
  - level: None
    users: [system:kube-proxy]
    verbs: [watch]
    resources: [{group: '', resources: [endpoints, services]}]
  - level: None
    userGroups: [system:nodes]
    nonResourceURLs: ['/api*', /version]
  - level: Request
    resources: [{group: '', resources: [configmaps], resourceNames: [kubeadm-config]}]
    namespaces: [kube-system]
    omitStages: [ResponseStarted]
    omitManagedFields: false
  - level: RequestResponse
    resources:
      - {group: '', resources: [pods/exec, '*/scale', 'services/*']}
      - {group: apps}
  - level: Metadata
    namespaces: ['']
  - level: Request
    resources: [{group: '*', resources: [jobs]}]
  - level: None
    resources: [{group: '', resources: ['*']}]
";

fn policy(text: &str) -> AuditPolicy {
    AuditPolicy::read("policy.yaml", text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = policy(POLICY);
    let resource = |group, path: &'static str, namespace, name| {
        let (resource, subresource) = path.split_once('/').unwrap_or((path, ""));
        Some(Resource { group, resource, subresource, namespace, name })
    };
    let proxy = Some("system:kube-proxy");
    use AuditLevel::{Metadata, None as Nothing, Request as Body, RequestResponse as Both};
    for (user, groups, verb, resource, path, level, line) in [
        (proxy, vec![], "watch", resource("", "services", "a", ""), "", Nothing, 7),
        (proxy, vec![], "list", resource("", "services", "a", ""), "", Both, 19),
        (Some("u"), vec![], "watch", resource("", "endpoints", "a", ""), "", Nothing, 27),
        (None, vec!["system:nodes"], "get", None, "/version", Nothing, 0),
        (Some("n"), vec!["x", "system:nodes"], "get", None, "/apis/apps", Nothing, 11),
        (Some("n"), vec!["system:nodes"], "get", None, "/versions", Nothing, 0),
        (Some("n"), vec!["system:nodes"], "get", resource("", "pods", "", ""), "/api", Metadata, 23),
        (Some("u"), vec![], "get", resource("", "configmaps", "kube-system", "kubeadm-config"), "", Body, 14),
        (Some("u"), vec![], "get", resource("", "configmaps", "kube-system", "x"), "", Nothing, 27),
        (Some("u"), vec![], "create", resource("", "pods/exec", "a", "p"), "", Both, 19),
        (Some("u"), vec![], "create", resource("", "pods", "a", "p"), "", Nothing, 27),
        (Some("u"), vec![], "update", resource("", "replicationcontrollers/scale", "a", "p"), "", Both, 19),
        (Some("u"), vec![], "get", resource("", "services/proxy", "a", "p"), "", Both, 19),
        (Some("u"), vec![], "get", resource("apps", "deployments/status", "a", "p"), "", Both, 19),
        (Some("u"), vec![], "get", resource("", "namespaces", "", "p"), "", Metadata, 23),
        (Some("u"), vec![], "get", resource("batch", "jobs", "a", "p"), "", Body, 25),
        (Some("u"), vec![], "get", resource("batch", "jobs/status", "a", "p"), "", Nothing, 0),
    ] {
        let request = Request { user, groups, verb, resource, path };
        let decision = policy.decide(&request);
        let decided = (decision.level, decision.rule.map_or(0, |rule| rule.line));
        assert_eq!(decided, (level, line), "{request:?}");
    }
    let request = Request {
        user: Some("u"),
        resource: resource("", "configmaps", "kube-system", "kubeadm-config"),
        ..Request::default()
    };
    let decision = policy.decide(&request);
    let omitted: Vec<_> = STAGES.into_iter().filter(|stage| decision.omits_stage(stage)).collect();
    assert_eq!((omitted, decision.omit_managed_fields), (vec!["RequestReceived", "ResponseStarted"], false));
}

#[test]
fn what_the_api_server_would_refuse_is_refused_with_its_line() {
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    for (text, line, reason) in [
        ("kind: Policy\nrules: [{level: None}]".to_owned(), 1, "apiVersion"),
        (format!("{head}rules: []"), 1, "no rules"),
        (format!("{head}rules:\n  - level: Everything"), 4, "not one of None"),
        (format!("{head}rules:\n  - level: None\n    user: [x]"), 5, "unknown key \"user\""),
        (format!("{head}rules:\n  - level: None\n    users: x"), 5, "must be a list"),
        (format!("{head}rules:\n  - level: None\n    nonResourceURLs: [healthz]"), 4, "begins with a slash"),
        (format!("{head}rules:\n  - level: None\n    nonResourceURLs: [/a*b]"), 4, "only its end"),
        (
            format!("{head}rules:\n  - level: None\n    nonResourceURLs: [/a]\n    namespaces: [x]"),
            4,
            "not about both",
        ),
        (format!("{head}rules:\n  - level: None\n    resources: [{{group: apps/v1}}]"), 5, "version"),
        (
            format!("{head}rules:\n  - level: None\n    resources: [{{resourceNames: [a]}}]"),
            5,
            "need resources",
        ),
        (format!("{head}rules:\n  - level: None\n    omitStages: [Later]"), 4, "stage \"Later\""),
        ("a: b: c".to_owned(), 1, "not YAML"),
        (String::new(), 0, "no audit policy"),
    ] {
        let problems = AuditPolicy::read("p.yaml", &text).unwrap_err();
        let found = problems.iter().any(|problem| problem.line == line && problem.reason.contains(reason));
        assert!(found, "{text}: {problems:?}");
    }
    policy("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]");
}

/// Titles and messages of the rules that a policy starves.
fn starved(rules: &[crate::Rule], policy: &AuditPolicy) -> Vec<String> {
    let starved = lint(rules, &Lists::shipped(), Some(policy))
        .into_iter()
        .filter(|finding| finding.kind == FindingKind::Starved);
    starved.map(|finding| format!("{}: {}", finding.rule, finding.message)).collect()
}

#[test]
fn a_generated_policy_starves_none_of_its_rules() {
    let loaded = load(&library::files(), &Lists::shipped());
    let text = generate(&loaded.rules);
    let policy = policy(&text);
    assert_eq!(starved(&loaded.rules, &policy), Vec::<String>::new(), "{text}");
    let level = |verb, group, resource| {
        let resource = Some(Resource { group, resource, namespace: "a", ..Resource::default() });
        policy.decide(&Request { user: Some("u"), verb, resource, ..Request::default() }).level
    };
    assert!(level("create", "apps", "deployments") > AuditLevel::Metadata, "{text}");
    assert_eq!(level("get", "", "secrets"), AuditLevel::Metadata, "{text}");
    assert_eq!(level("create", "example.com", "widgets"), AuditLevel::Metadata, "{text}");
}

#[test]
fn a_generated_policy_asks_for_no_more_than_the_rules() {
    let rules = "title: a\ndetection: {s: {objectRef.resource: pods, verb: [create, update], \
        requestObject.spec.hostPID: true}, condition: s}\n---\ntitle: b\ndetection: {s: {objectRef.resource: secrets, \
        verb: get}, condition: s}\n---\ntitle: c\ndetection: {s: {objectRef.resource: pods, objectRef.subresource: \
        exec}, condition: s}\n---\ntitle: d\ndetection: {s: {objectRef.resource: roles, verb: patch}, \
         a: {requestObject.x: 1}, b: {responseObject.x: 1}, condition: s and (a or b)}\n";
    let loaded = load(&[("r.yml".to_owned(), rules.to_owned())], &Lists::shipped());
    assert_eq!(loaded.errors, []);
    let text = generate(&loaded.rules);
    let policy = policy(&text);
    assert_eq!(policy.rules.last().map(|rule| rule.level), Some(AuditLevel::None), "{text}");
    let level = |verb, path: &'static str, subresource| {
        let (group, resource) = path.split_once(':').unwrap_or(("", path));
        let resource = Some(Resource { group, resource, subresource, namespace: "a", ..Resource::default() });
        policy.decide(&Request { user: Some("u"), verb, resource, ..Request::default() }).level
    };
    for (verb, resource, subresource, expect) in [
        ("create", "pods", "", AuditLevel::Request),
        ("update", "pods", "", AuditLevel::Request),
        ("delete", "pods", "", AuditLevel::None),
        ("get", "pods", "exec", AuditLevel::Metadata),
        ("get", "secrets", "", AuditLevel::Metadata),
        ("get", "nodes", "", AuditLevel::None),
        ("patch", "rbac.authorization.k8s.io:roles", "", AuditLevel::RequestResponse),
    ] {
        assert_eq!(level(verb, resource, subresource), expect, "{verb} {resource} {subresource}\n{text}");
    }
}

#[test]
fn the_policy_that_ships_starves_no_shipped_rule() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/audit-policy.yaml");
    let bytes = std::fs::read(path).unwrap();
    let policy = policy(std::str::from_utf8(&bytes).unwrap());
    assert_eq!(starved(&load(&library::files(), &Lists::shipped()).rules, &policy), Vec::<String>::new());
}
