//! What Falco's conditions, items and outputs mean here, case by case, and what is refused.

use std::slice::from_ref;
use std::sync::Arc;

use serde_json::{Value, json};
use watchbell_event::Level;

use crate::{Evaluator, Language, Lists, LoadError, Loaded, RuleSet, load};

fn read(texts: &[&str]) -> Loaded {
    let files: Vec<_> =
        texts.iter().enumerate().map(|(at, text)| (format!("{at}.yaml"), (*text).to_owned())).collect();
    load(&files, &Lists::shipped())
}

/// A rule with this condition as an item of a file; JSON is YAML, too.
fn rule(condition: &str) -> String {
    let item = json!({
        "rule": "r", "desc": "d", "condition": condition, "output": "o", "priority": "WARNING", "source": "k8s_audit",
    });
    format!("- {item}\n")
}

/// Titles of the rules that match.
fn matching(loaded: Loaded, event: &Value) -> Vec<String> {
    assert_eq!(loaded.errors, []);
    let mut evaluator = Evaluator::new(Arc::new(RuleSet::compile(loaded.rules)));
    let mut found = Vec::new();
    assert!(evaluator.matches(event.to_string().as_bytes(), &mut found));
    found.iter().map(|index| evaluator.rules().rules()[*index].title.to_string()).collect()
}

/// Checks a condition on events that must and must not match.
fn check(condition: &str, yes: &[Value], no: &[Value]) {
    for (events, expect) in [(yes, true), (no, false)] {
        for event in events {
            let found = matching(read(&[&rule(condition)]), event);
            assert_eq!(!found.is_empty(), expect, "{condition} on {event}");
        }
    }
}

fn verb(verb: &str) -> Value {
    json!({ "verb": verb })
}

fn pod(specification: &Value) -> Value {
    json!({"objectRef": {"resource": "pods"}, "requestObject": {"spec": specification}})
}

fn refused(text: &str) -> LoadError {
    let loaded = read(&[text]);
    assert!(loaded.rules.is_empty(), "{text}");
    loaded.errors.first().cloned().unwrap_or_else(|| panic!("nothing is wrong with {text}"))
}

#[test]
fn operators_compare_with_case_and_a_missing_field_fails_every_check() {
    let none = || json!({"verb": null});
    for (condition, yes, no) in [
        ("ka.verb=get", vec!["get"], vec!["Get", "gets", ""]),
        ("ka.verb == \"get\"", vec!["get"], vec!["GET"]),
        ("ka.verb != get", vec!["Get", "list"], vec!["get"]),
        ("ka.verb in (get, 'list')", vec!["get", "list"], vec!["List", "watch"]),
        ("ka.verb in(get,list)", vec!["get"], vec!["watch"]),
        ("ka.verb in ()", vec![], vec!["get"]),
        ("ka.verb intersects (get, list)", vec!["list"], vec!["watch"]),
        ("ka.verb startswith g", vec!["get", "g"], vec!["Get", "og"]),
        ("ka.verb endswith ist", vec!["list"], vec!["lisT", "lists"]),
        ("ka.verb contains is", vec!["list"], vec!["LIST"]),
        ("ka.verb icontains IS", vec!["list", "LIST"], vec!["get"]),
        ("ka.verb glob 'l?s*'", vec!["list", "los"], vec!["ls", "List", "alist"]),
        ("ka.verb glob 'a[b-d!]*\\*'", vec!["ab*", "a!x*"], vec!["ae*", "ab"]),
        ("ka.verb glob '[!a]?'", vec!["bx", "]."], vec!["ax", "b"]),
        ("ka.verb iglob 'L*T'", vec!["list", "LT"], vec!["get"]),
        ("ka.verb regex 'l.*t'", vec!["list", "lt"], vec!["lists", "alt", "LIST"]),
        ("ka.verb regex 'a|b'", vec!["a", "b"], vec!["ab", "xb"]),
        (
            "ka.verb pmatch (/etc/, /var/*/log)",
            vec!["/etc", "/etc/x", "/var/a/log", "/var/a/log/b"],
            vec!["/etcx", "/var/a/b/log", "/var/log", "x/etc"],
        ),
        ("ka.verb pmatch (/)", vec!["/x"], vec!["x"]),
        ("ka.verb < 10", vec!["9.5", "-1"], vec!["10", "x"]),
        ("ka.verb >= 10", vec!["10", "11"], vec!["9"]),
        ("ka.verb exists", vec!["", "x"], vec![]),
        ("ka.verb = 'a\"b'", vec!["a\"b"], vec!["ab"]),
        ("ka.verb = \"a\\\"b\\\\c\"", vec!["a\"b\\c"], vec!["ab"]),
    ] {
        let yes: Vec<_> = yes.into_iter().map(verb).collect();
        let mut no: Vec<_> = no.into_iter().map(verb).collect();
        no.extend([json!({}), none()]);
        check(condition, &yes, &no);
    }
    check("not ka.verb = get", &[json!({}), none(), verb("list")], &[verb("get")]);
}

#[test]
fn conditions_bind_loosest_first_or_and_not() {
    let event = |verb: &str, user: &str| json!({"verb": verb, "user": {"username": user}});
    check(
        "ka.verb=a or ka.verb=b and ka.user.name=u",
        &[event("a", "x"), event("b", "u")],
        &[event("b", "x"), event("c", "u")],
    );
    check("(ka.verb=a or ka.verb=b) and ka.user.name=u", &[event("a", "u")], &[event("a", "x")]);
    check("not ka.verb=a and(ka.user.name=u)", &[event("b", "u")], &[event("a", "u"), event("b", "x")]);
    check("not(ka.verb=a or ka.user.name=u)", &[event("b", "x")], &[event("a", "x"), event("b", "u")]);
    check("not not ka.verb=a", &[event("a", "u")], &[event("b", "u")]);
    check("not jevt.rawtime exists", &[], &[event("a", "u")]);
    check("jevt.rawtime exists", &[event("a", "u")], &[]);
    check("jevt.rawtime=0", &[], &[event("a", "u"), json!({"stageTimestamp": "2026-01-31T08:15:00Z"})]);
    check(
        "jevt.rawtime > 1769847299000000000",
        &[json!({"stageTimestamp": "2026-01-31T08:15:00Z"})],
        &[json!({})],
    );
}

#[test]
fn lists_are_within_a_set_or_meet_it() {
    let groups = |groups: &[&str]| json!({"user": {"groups": groups}});
    check(
        "ka.user.groups in (a, b)",
        &[groups(&["a"]), groups(&["a", "b"])],
        &[groups(&["a", "c"]), groups(&["A"]), groups(&[]), json!({})],
    );
    check("not ka.user.groups in (a, b)", &[groups(&["a", "c"]), groups(&[]), json!({})], &[groups(&["a"])]);
    check("ka.user.groups intersects (a, b)", &[groups(&["x", "b"])], &[groups(&["x"]), json!({})]);
    check("ka.user.groups exists", &[groups(&["x"]), groups(&[])], &[json!({})]);
    check(
        "ka.sourceips[1] = 10.0.0.7",
        &[json!({"sourceIPs": ["6.6.6.6", "10.0.0.7"]})],
        &[json!({"sourceIPs": ["10.0.0.7"]}), json!({"sourceIPs": ["10.0.0.7", "6.6.6.6"]})],
    );
    check(
        "ka.sourceips intersects (10.0.0.7)",
        &[json!({"sourceIPs": ["6.6.6.6", "10.0.0.7"]})],
        &[json!({})],
    );
}

#[test]
fn fields_of_the_request_and_the_answer() {
    let event = json!({
        "auditID": "a1", "stage": "ResponseComplete", "verb": "create", "requestURI": "/api?command=cat+%2Fetc",
        "userAgent": "kubectl", "user": {"username": "u"}, "impersonatedUser": {"username": "i"},
        "objectRef": {"resource": "pods", "subresource": "exec", "namespace": "n", "name": "p"},
        "responseStatus": {"code": 403, "reason": "Forbidden"},
        "responseObject": {"metadata": {"name": "p-1"}},
        "annotations": {
            "authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "RBAC", "cluster_name": "c",
            "pod-security.kubernetes.io/audit-violations": "v", "authentication.openshift.io/username": "o",
        },
    });
    for condition in [
        "ka.auditid=a1",
        "ka.stage=ResponseComplete and jevt.value[/stage] in (ResponseComplete)",
        "ka.auth.decision=allow and ka.auth.reason=RBAC",
        "ka.auth.openshift.username=o and not ka.auth.openshift.decision exists",
        "ka.security.pod.violations=v and not ka.validations.admission.policy.failure exists",
        "ka.user.name=u and ka.impuser.name=i",
        "ka.uri startswith /api and ka.uri.param[command] = 'cat /etc'",
        "ka.auditid=a1 and not ka.uri.param[x] exists",
        "ka.target.resource=pods and ka.target.subresource=exec and ka.target.namespace=n and ka.target.name=p",
        "ka.target.pod.name=p and ka.resp.name=p-1",
        "ka.response.code=403 and ka.response.code startswith 4 and ka.response.reason=Forbidden",
        "ka.useragent=kubectl and ka.cluster.name=c",
        "jevt.value[/annotations/authorization.k8s.io~1decision] = allow",
        "jevt.value[/responseStatus/code] = 403 and jevt.value[/responseObject] contains p-1",
        "jevt.obj contains '\"auditID\":\"a1\"'",
    ] {
        check(condition, from_ref(&event), &[json!({})]);
    }
    let generated =
        json!({"objectRef": {"resource": "pods"}, "responseObject": {"metadata": {"name": "p-1"}}});
    check(
        "ka.target.pod.name = p-1",
        &[generated],
        &[json!({"objectRef": {"resource": "nodes", "name": "p-1"}})],
    );
}

#[test]
fn fields_of_pods() {
    let event = pod(&json!({
        "hostIPC": true, "hostNetwork": true, "hostPID": false,
        "securityContext": {"runAsUser": 7, "runAsGroup": 8, "fsGroup": 9, "supplementalGroups": [1, 2]},
        "containers": [
            {"name": "a", "image": "registry:5000/app:1", "args": ["-x", "y"], "command": ["sh", "-c"],
             "ports": [{"hostPort": 80, "containerPort": 8080}, {"containerPort": 81}],
             "securityContext": {"privileged": true, "runAsUser": 1000, "capabilities": {"add": ["NET_ADMIN"]},
                                 "procMount": "Unmasked", "readOnlyRootFilesystem": true}},
            {"name": "b", "image": "side@sha256:00", "securityContext": {"allowPrivilegeEscalation": false}},
        ],
        "initContainers": [{"name": "i", "image": "init:2"}],
        "ephemeralContainers": [{"name": "e", "image": "debug", "securityContext": {"privileged": false}}],
        "volumes": [
            {"name": "v", "hostPath": {"path": "/var/run/docker.sock"}},
            {"name": "w", "flexVolume": {"driver": "d"}}, {"name": "s", "secret": {}},
        ],
    }));
    for condition in [
        "ka.req.pod.host_ipc=true and ka.req.pod.host_network intersects (true) and ka.req.pod.host_pid=false",
        "ka.req.container.host_network=true and ka.req.container.privileged=true",
        "ka.req.pod.run_as_user=7 and ka.req.pod.run_as_group=8 and ka.req.pod.fs_group=9",
        "ka.req.pod.supplemental_groups in (1, 2, 3)",
        "ka.req.pod.containers.name in (a, b) and ka.req.pod.containers.name[1] = b",
        "ka.req.pod.containers.image intersects (registry:5000/app:1)",
        "ka.req.container.image = registry:5000/app:1 and ka.req.container.image.repository = registry:5000/app",
        "ka.req.pod.containers.image.repository in (registry:5000/app, side)",
        "ka.target.resource=pods and not ka.req.pod.containers.image.repository in (side)",
        "ka.req.pod.containers.image.repository[1] = side",
        "ka.req.pod.containers.args intersects ('-x y') and ka.req.pod.containers.command[0] = 'sh -c'",
        "ka.req.pod.containers.host_port in (80, 81) and ka.req.pod.containers.host_port[0] intersects (81)",
        "ka.req.pod.containers.privileged intersects (true) and not ka.req.pod.containers.privileged[1] exists",
        "ka.req.pod.containers.allow_privilege_escalation in (false)",
        "ka.req.pod.containers.read_only_fs intersects (true) and ka.req.pod.containers.proc_mount in (Unmasked)",
        "ka.req.pod.containers.run_as_user in (1000) and not ka.req.pod.containers.run_as_group exists",
        "ka.req.pod.containers.eff_run_as_user in (1000, 7) and ka.req.pod.containers.eff_run_as_user[1] = 7",
        "ka.req.pod.containers.eff_run_as_group in (8) and ka.req.pod.initContainers.eff_run_as_user in (7)",
        "ka.req.pod.containers.add_capabilities intersects (NET_ADMIN)",
        "ka.req.pod.volumes.hostpath in (/var/run/docker.sock) and ka.req.pod.volumes.hostpath[0] startswith /var",
        "ka.req.volume.hostpath[/var/run/*] = true and ka.req.volume.hostpath[/var/run] = false",
        "ka.req.pod.volumes.flexvolume_driver intersects (d)",
        "ka.req.pod.volumes.volume_type in (hostPath, flexVolume, secret)",
        "ka.req.pod.initContainers.image.repository in (init) and ka.req.pod.ephemeralContainers.image in (debug)",
        "ka.req.pod.ephemeralContainers.privileged in (false)",
        "jevt.value[/requestObject/spec/containers/1/name] = b",
        "jevt.value[/requestObject/spec/volumes] exists and not jevt.value[/requestObject/spec/tls] exists",
    ] {
        check(condition, from_ref(&event), &[json!({})]);
    }
    let plain = pod(&json!({"containers": [{"image": "x"}]}));
    check("ka.req.container.privileged=false", from_ref(&plain), &[pod(&json!({}))]);
    check("ka.req.pod.containers.eff_run_as_user in (0)", &[plain], &[pod(&json!({"containers": []}))]);
}

#[test]
fn fields_of_roles_bindings_services_and_configuration() {
    let role = json!({"requestObject": {"rules": [
        {"apiGroups": [""], "resources": ["pods", "pods/exec"], "verbs": ["get"]},
        {"nonResourceURLs": ["/healthz"], "verbs": ["*"]},
    ]}});
    for condition in [
        "ka.req.role.rules.resources intersects (pods/exec) and ka.req.role.rules.verbs in (get, '*')",
        "ka.req.role.rules.verbs[1] in ('*') and ka.req.role.rules.apiGroups in ('')",
        "ka.req.role.rules.nonResourceURLs in (/healthz)",
        r#"ka.req.role.rules intersects ('{"nonResourceURLs":["/healthz"],"verbs":["*"]}')"#,
    ] {
        check(condition, from_ref(&role), &[json!({"requestObject": {"rules": []}})]);
    }
    let binding = json!({"requestObject": {"roleRef": {"name": "cluster-admin"}, "subjects": [
        {"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"},
        {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
    ]}});
    for condition in [
        "ka.req.binding.role=cluster-admin and ka.req.binding.subjects.user_names in (u)",
        "ka.req.binding.subjects.group_names in (g) and ka.req.binding.subjects.serviceaccount_names in (s)",
        "ka.req.binding.subjects.serviceaccount_ns_names in (n:s)",
        r#"ka.req.binding.subjects intersects ('{"kind":"User","name":"u"}')"#,
    ] {
        check(condition, from_ref(&binding), &[json!({"requestObject": {"subjects": []}})]);
    }
    let service = json!({"requestObject": {"spec": {"type": "NodePort", "ports": [{"port": 80}]}}});
    check("ka.req.service.type=NodePort", from_ref(&service), &[json!({})]);
    check(
        r#"ka.req.service.ports in ('{"port":80}') and ka.req.service.ports[0] contains 80"#,
        &[service],
        &[json!({})],
    );
    let map = json!({"objectRef": {"name": "c"}, "requestObject": {"data": {"a": "my password"}}});
    check("ka.req.configmap.name=c and ka.req.configmap.obj contains password", &[map], &[json!({})]);
}

#[test]
fn a_body_that_was_not_recorded_decides_nothing() {
    let event = json!({"level": "Metadata", "verb": "create"});
    check(
        "not ka.req.pod.containers.image.repository in (a)",
        &[json!({"level": "Request"})],
        from_ref(&event),
    );
    check("not ka.req.pod.host_pid = true", &[json!({"level": "Request"})], &[event]);
}

const BASE: &str = "
- required_engine_version: 15
- required_plugin_versions: [{name: k8saudit, version: 0.18.0}]
- list: users
  items: [alice, \"'bob b'\", more_users]
- list: more_users
  items: [carol]
- macro: known
  condition: ka.user.name in (users)
- rule: unknown user
  desc: d
  condition: ka.verb=get and not known
  output: o
  priority: ERROR
  source: k8s_audit
  tags: [k8s, T1552.007, mitre_credential_access]
";

fn get(user: &str) -> Value {
    json!({"verb": "get", "user": {"username": user}})
}

#[test]
fn lists_and_macros_are_put_in_and_later_files_change_them() {
    for (local, silent, loud) in [
        ("- list: none\n  items: []", vec!["alice", "bob b", "carol"], vec!["dora", "users"]),
        ("- list: users\n  items: [dora]\n  append: true", vec!["alice", "dora"], vec!["eve"]),
        ("- list: users\n  items: [dora]\n  override: {items: append}", vec!["alice", "dora"], vec!["eve"]),
        ("- list: users\n  items: [dora]\n  override: {items: replace}", vec!["dora"], vec!["alice"]),
        ("- list: more_users\n  items: [dora]", vec!["alice", "dora"], vec!["carol"]),
        ("- macro: known\n  condition: ka.user.name=eve", vec!["eve"], vec!["alice"]),
        (
            "- macro: known\n  condition: or ka.user.name=eve\n  append: true",
            vec!["alice", "eve"],
            vec!["dora"],
        ),
        (
            "- rule: unknown user\n  condition: and not ka.user.name=eve\n  append: true",
            vec!["alice", "eve"],
            vec!["dora"],
        ),
        (
            "- rule: unknown user\n  condition: ka.user.name=eve\n  override: {condition: replace}",
            vec!["dora"],
            vec!["eve"],
        ),
        ("- rule: unknown user\n  enabled: false", vec!["eve", "dora"], vec![]),
        ("- rule: unknown user\n  enabled: false\n  override: {enabled: replace}", vec!["eve"], vec![]),
    ] {
        for (users, expect) in [(silent, 0), (loud, 1)] {
            for user in users {
                assert_eq!(matching(read(&[BASE, local]), &get(user)).len(), expect, "{local} for {user}");
            }
        }
    }
}

#[test]
fn exceptions_take_tuples_of_values_away() {
    let with = |exceptions: &str| {
        format!(
            "{BASE}\n- rule: read\n  desc: d\n  condition: ka.verb=get or ka.verb=list\n  output: o\n  \
             priority: INFO\n  source: k8s_audit\n  exceptions:\n{exceptions}"
        )
    };
    let event =
        |user: &str, agent: &str| json!({"verb": "list", "user": {"username": user}, "userAgent": agent});
    let pairs = with(
        "    - {name: p, fields: [ka.user.name, ka.useragent], comps: [=, startswith],\n       \
         values: [[u, kube], [v, curl]]}",
    );
    let set = with("    - {name: s, fields: ka.user.name, values: [u, users]}");
    let nested =
        with("    - {name: n, fields: [ka.user.name], comps: [in], values: [[[u, v]], [users], ['(w, x)']]}");
    let empty = with("    - {name: e, fields: [ka.user.name]}");
    let appended = "- rule: read\n  append: true\n  exceptions: [{name: e, values: [[u]]}, {name: f, fields: ka.useragent, values: [x]}]";
    for (files, silent, loud) in [
        (
            vec![pairs.as_str()],
            vec![("u", "kubectl"), ("v", "curl/8")],
            vec![("u", "curl"), ("w", "kubectl")],
        ),
        (vec![&set], vec![("u", ""), ("alice", "")], vec![("v", "")]),
        (vec![&nested], vec![("u", ""), ("v", ""), ("carol", ""), ("x", "")], vec![("y", "")]),
        (vec![&empty], vec![], vec![("u", "")]),
        (vec![&empty, appended], vec![("u", ""), ("y", "x")], vec![("v", "")]),
    ] {
        for (cases, expect) in [(silent, false), (loud, true)] {
            for (user, agent) in cases {
                let found = matching(read(&files), &event(user, agent));
                assert_eq!(found.contains(&"read".to_owned()), expect, "{files:?} for {user} {agent}");
            }
        }
    }
}

#[test]
fn attributes_are_those_of_any_rule() {
    let loaded = read(&[BASE]);
    let rule = &loaded.rules[0];
    assert_eq!((&*rule.title, &*rule.key, rule.line), ("unknown user", "0.yaml: unknown user", 10));
    assert_eq!((rule.level, rule.language), (Level::High, Language::Falco));
    let tags: Vec<&str> = rule.tags.iter().map(|tag| &**tag).collect();
    let expect =
        ["k8s", "T1552.007", "attack.t1552.007", "mitre_credential_access", "attack.credential-access"];
    assert_eq!(tags, expect);
}

#[test]
fn an_error_names_the_file_that_made_it() {
    let loaded = read(&[BASE, "\n- rule: unknown user\n  condition: and ka.x=y\n  append: true"]);
    let told: Vec<_> = loaded.errors.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["1.yaml:3: rule \"unknown user\": there is no field ka.x"]);
}

#[test]
fn closing_brackets_may_stand_below_their_key() {
    let list = "- list: users\n  items: [\n    alice,\n  ]\n";
    assert_eq!(matching(read(&[&format!("{BASE}{list}")]), &get("bob b")), ["unknown user"]);
    assert!(refused("- list: users\n  items: [\n    alice,\n").reason.contains("not YAML"));
}

#[test]
fn every_rule_is_evaluated() {
    let second = BASE
        .replace("unknown user", "another")
        .replace("- list: users", "- list: more")
        .replace("[carol]", "[]");
    assert_eq!(matching(read(&[BASE, &second]), &get("dora")), ["unknown user", "another"]);
}

#[test]
fn outputs_are_filled_in() {
    for (output, expect) in [
        ("read by %ka.user.name (%ka.response.code).", "read by alice (200)."),
        (
            "groups=%ka.user.groups first=%ka.sourceips[0] x=%ka.target.name",
            "groups=(a,b) first=10.0.0.7 x=<NA>",
        ),
        ("%jevt.value[/responseStatus] 100% at %evt.time", "{\"code\":200} 100% at 2026-01-31T08:15:00Z"),
        ("*%ka.verb", "get"),
    ] {
        let template = super::Template::parse(output).unwrap();
        let event = json!({
            "verb": "get", "user": {"username": "alice", "groups": ["a", "b"]}, "sourceIPs": ["10.0.0.7"],
            "responseStatus": {"code": 200}, "stageTimestamp": "2026-01-31T08:15:00Z",
        });
        assert_eq!(template.fill(&event), expect, "{output}");
    }
    let long = super::Template::parse("%ka.verb").unwrap().fill(&verb(&"é".repeat(10_000)));
    assert_eq!(long.chars().count(), 200);
}

#[test]
fn what_is_refused_is_named_with_its_line() {
    let with = rule;
    let many = format!("ka.verb in ({})", vec!["x"; 20_000].join(","));
    let deep = format!("{}ka.verb=a{}", "(".repeat(100), ")".repeat(100));
    let doubling: String = (1..30)
        .map(|level| format!("- macro: m{level}\n  condition: m{0} or m{0}\n", level - 1))
        .chain(["- macro: m0\n  condition: ka.verb=a\n".to_owned(), with("m29")])
        .collect();
    for (text, line, reason) in [
        (with("evt.type = open"), 1, "evt.type is not one of Kubernetes audit events"),
        (with("k8s.ns.name = x"), 1, "k8s.ns.name"),
        (with("ka.nothing = x"), 1, "there is no field ka.nothing"),
        (with("ka.verb[0] = x"), 1, "takes no argument"),
        (with("ka.uri.param = x"), 1, "needs an argument"),
        (with("ka.sourceips[x] = x"), 1, "must be the number of a member"),
        (with("jevt.value[verb] = x"), 1, "JSON pointer"),
        (with("ka.user.groups = x"), 1, "a list is compared with in, intersects or exists"),
        (with("ka.verb bcontains 00"), 1, "compares buffers"),
        (with("ka.verb like x"), 1, "not an operator"),
        (with("tolower(ka.verb) = x"), 1, "tolower() is not supported"),
        (with(""), 1, "condition is empty"),
        (with("x").replace("\"x\"", "[x]"), 1, "condition must be text, not a list"),
        (with("ka.verb = "), 1, "ends where a value should stand"),
        (with("ka.verb = a b"), 1, "goes on with \"b\""),
        (with("(ka.verb = a"), 1, "\")\""),
        (with("ka.verb = 'a"), 1, "not closed"),
        (with("ka.verb < a"), 1, "not a number"),
        (with("ka.verb regex '('"), 1, "regular expression"),
        (with("ka.verb glob '@(a|b)'"), 1, "extended patterns"),
        (with("unknown_macro"), 1, "there is no macro"),
        (with(&deep), 1, "nested deeper than 64"),
        (with(&format!("ka.verb = {}", "x".repeat(9000))), 1, "a value is longer"),
        (with(&format!("ka.verb = {}", "x".repeat(70_000))), 1, "longer than 65536 bytes"),
        (with(&format!("{many} or {many}")), 1, "longer than 65536 bytes"),
        (doubling, 0, "more than 100000"),
        (
            format!("- macro: a\n  condition: b\n- macro: b\n  condition: a\n{}", with("a")),
            5,
            "contains itself",
        ),
        (
            format!("- list: a\n  items: [b]\n- list: b\n  items: [a]\n{}", with("ka.verb in (a)")),
            5,
            "contains itself",
        ),
        (with("ka.verb=a").replace("k8s_audit", "syscall"), 1, "rule \"r\": source syscall is not supported"),
        (with("ka.verb=a").replace("WARNING", "LOUD"), 1, "unknown priority"),
        (with("ka.verb=a").replace("\"o\"", "\"%ka.nothing\""), 1, "output: there is no field"),
        (with("ka.verb=a").replace("\"desc\"", "\"dest\""), 1, "desc is missing"),
        ("- rule: x\n  condition: ka.verb=a\n  append: true".to_owned(), 1, "no rule \"x\" before this"),
        ("- macro: x\n  condition: y\n  append: true".to_owned(), 1, "no macro \"x\" before this"),
        ("- list: x\n  items: [y]\n  override: {items: prepend}".to_owned(), 3, "only append and replace"),
        ("- list: x".to_owned(), 1, "no items"),
        ("- something: x".to_owned(), 1, "one of: required_engine_version"),
        ("- x".to_owned(), 1, "one of: required_engine_version"),
    ] {
        let error = refused(&text);
        assert!(error.reason.contains(reason), "{text:.200}: {error}");
        assert!(line == 0 || error.line == line, "{text:.200}: {error}");
    }
}

#[test]
fn sigma_correlations_count_falco_rules_by_their_names() {
    let falco = "- list: maps\n  items: [configmaps]\n- rule: Map read\n  desc: d\n  output: o\n  priority: INFO\n  \
        source: k8s_audit\n  condition: ka.target.resource in (maps)\n";
    let sigma = "title: c\ncorrelation:\n  type: event_count\n  rules: [Map read]\n  group-by: [user.name]\n  \
        timespan: 1m\n  condition: {gte: 3}\n";
    let loaded = load(
        &[("c.yml".to_owned(), sigma.to_owned()), ("f.yaml".to_owned(), falco.to_owned())],
        &Lists::shipped(),
    );
    assert_eq!(loaded.errors, []);
    assert_eq!(loaded.rules[1].lists, ["maps".into()]);
    assert_eq!(crate::counted_rules(&loaded.rules), [vec![1], vec![]]);
    let set = RuleSet::compile(loaded.rules);
    assert!(set.is_silent(1) && !set.is_silent(0));
}
