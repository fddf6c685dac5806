//! The compiled engine against the naive one, on generated Falco rules and events about pods and roles.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;
use crate::compile::Traffic;
use crate::{Lists, load};

const CHECKS: [&str; 22] = [
    "ka.verb = create",
    "ka.verb != get",
    "ka.user.groups in (a, b)",
    "ka.user.groups intersects (b, c)",
    "ka.user.groups exists",
    "ka.target.resource in (pods, roles)",
    "ka.target.pod.name startswith p",
    "ka.req.pod.containers.image.repository in (a, b/c)",
    "ka.req.pod.containers.image.repository[1] exists",
    "ka.req.pod.containers.image in (a:1, b/c)",
    "ka.req.pod.containers.privileged intersects (true)",
    "ka.req.container.privileged != true",
    "ka.req.pod.containers.eff_run_as_user in (0, 7)",
    "ka.req.pod.containers.args intersects ('x y')",
    "ka.req.pod.volumes.hostpath in (/etc, /)",
    "ka.req.volume.hostpath[/e*] = true",
    "ka.req.role.rules.verbs in (get, list)",
    "ka.req.role.rules.verbs[0] intersects (list)",
    "jevt.value[/requestObject/spec/containers] contains b",
    "jevt.value[/requestObject/spec/hostPID] exists",
    "ka.resp.name regex 'p.*'",
    "jevt.rawtime exists",
];

fn condition() -> impl Strategy<Value = String> {
    let check = select(&CHECKS[..]).prop_map(str::to_owned);
    check.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|part| format!("not ({part})")),
            proptest::collection::vec(inner.clone(), 2..4)
                .prop_map(|parts| format!("({})", parts.join(" and "))),
            proptest::collection::vec(inner, 2..4).prop_map(|parts| format!("({})", parts.join(" or "))),
        ]
    })
}

fn container() -> impl Strategy<Value = Value> {
    let image =
        select(vec![json!("a:1"), json!("b/c"), json!("a@sha256:0"), json!("d:5/e"), Value::Null, json!(1)]);
    let context = select(vec![
        Value::Null,
        json!({"privileged": true}),
        json!({"privileged": false, "runAsUser": 7}),
        json!({"runAsUser": 1000}),
    ]);
    (image, context, proptest::option::of(proptest::collection::vec(select(&["x", "y"][..]), 0..3)))
        .prop_map(|(image, context, args)| json!({"image": image, "securityContext": context, "args": args}))
}

fn texts(choices: &'static [&'static str]) -> impl Strategy<Value = Option<Vec<&'static str>>> {
    proptest::option::of(proptest::collection::vec(select(choices), 0..3))
}

fn event() -> impl Strategy<Value = Value> {
    (
        (select(&["get", "create", "Create"][..]), select(&["pods", "roles", "nodes"][..])),
        (texts(&["a", "b", "c"]), proptest::option::of(proptest::collection::vec(container(), 0..3))),
        (texts(&["/etc", "/", "/x"]), texts(&["get", "list", "*"]), proptest::option::of(select(&[0, 7][..]))),
        select(&["Metadata", "Request", "RequestResponse"][..]),
        (any::<bool>(), any::<bool>(), proptest::option::of(any::<bool>())),
    )
        .prop_map(|((verb, resource), (groups, containers), (paths, verbs, user), level, flags)| {
            let volumes = paths.map(|paths| paths.iter().map(|path| json!({"hostPath": {"path": path}})).collect::<Value>());
            let (has_request, has_response, host) = flags;
            let mut event = json!({
                "level": level, "verb": verb, "user": {"groups": groups}, "objectRef": {"resource": resource},
            });
            if has_request {
                event["requestObject"] = json!({
                    "spec": {"containers": containers, "volumes": volumes, "securityContext": {"runAsUser": user},
                             "hostPID": host},
                    "rules": [{"verbs": verbs}, {"verbs": ["get"]}],
                });
            }
            if has_response {
                event["responseObject"] = json!({"metadata": {"name": "p-1"}});
            }
            event
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn compiled_and_naive_agree_on_falco_rules(
        conditions in proptest::collection::vec(condition(), 1..10),
        events in proptest::collection::vec(event(), 1..8),
        counts in proptest::collection::vec(0..1_000u32, 1..40),
    ) {
        let items: Vec<Value> = conditions.iter().enumerate().map(|(number, condition)| json!({
            "rule": format!("r{number}"), "desc": "d", "condition": condition, "output": "o", "priority": "INFO",
            "source": "k8s_audit",
        })).collect();
        let loaded = load(&[("generated".to_owned(), Value::from(items).to_string())], &Lists::shipped());
        prop_assert_eq!(&loaded.errors, &[], "{:?}", conditions);
        let set = Arc::new(RuleSet::compile(loaded.rules));
        let counts = counts.into_iter().cycle().take(set.atoms.len()).collect();
        let planned = Arc::new(set.replan(&Traffic::of(1_000, counts)));
        let mut evaluators = [Evaluator::new(set.clone()), Evaluator::new(planned)];
        let mut matches = Vec::new();
        for event in &events {
            let bytes = event.to_string();
            let naive_event = naive::Event::read(bytes.as_bytes()).unwrap();
            let rules = set.rules().iter().enumerate();
            let expect: Vec<_> =
                rules.filter(|(_, rule)| naive_event.matches(rule)).map(|(index, _)| index).collect();
            for evaluator in &mut evaluators {
                evaluator.matches(bytes.as_bytes(), &mut matches);
                prop_assert_eq!(&matches, &expect, "{}", bytes);
            }
        }
    }
}
