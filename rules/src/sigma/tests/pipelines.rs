//! Processing pipelines: what they change, when, and what is refused.

use super::*;

/// Whether a rule matches an event under a pipeline with these steps.
fn matches(steps: &str, detection: &str, event: &str) -> bool {
    let steps = steps.replace('\n', "\n  ");
    let loaded = read(format!(
        "name: P\nvars: {{admins: [root, 'adm*']}}\ntransformations:\n  {steps}\n---\n\
        title: t\nlevel: high\ntags: [attack.t1]\nlogsource: {{product: linux, service: x}}\ndetection: {detection}\n"
    ));
    assert_eq!(loaded.errors, [], "{steps}");
    let mut evaluator = Evaluator::new(Arc::new(RuleSet::compile(loaded.rules)));
    let mut found = Vec::new();
    evaluator.matches(event.as_bytes(), &mut found);
    !found.is_empty()
}

fn check_all(cases: &[(&str, &str, &str, bool)]) {
    for (steps, detection, event, expect) in cases {
        assert_eq!(matches(steps, detection, event), *expect, "{steps}: {detection} on {event}");
    }
}

#[test]
fn fields_and_conditions_are_transformed() {
    let plain = "{s: {a: x}, condition: s}";
    check_all(&[
        ("- {type: field_name_mapping, mapping: {a: b.c}}", plain, r#"{"b":{"c":"x"}}"#, true),
        ("- {type: field_name_mapping, mapping: {a: b.c}}", plain, r#"{"a":"x"}"#, false),
        ("- {type: field_name_mapping, mapping: {a: [b, c]}}", plain, r#"{"c":"x"}"#, true),
        (
            "- {type: field_name_mapping, mapping: {a: [b, c]}}",
            "{s: {a: x, d: y}, condition: s}",
            r#"{"c":"x"}"#,
            false,
        ),
        (
            "- {type: field_name_mapping, mapping: {b: c}}",
            "{s: {a|fieldref: b}, condition: s}",
            r#"{"a":"1","c":"1"}"#,
            true,
        ),
        (
            "- {type: field_name_mapping, mapping: {null: msg}}",
            "{s: [foo], condition: s}",
            r#"{"msg":"a foo"}"#,
            true,
        ),
        (
            "- {type: field_name_mapping, mapping: {null: msg}}",
            "{s: [foo], condition: s}",
            r#"{"a":"foo"}"#,
            false,
        ),
        (
            "- {type: field_name_prefix_mapping, mapping: {u.: user.}}",
            "{s: {u.n: x}, condition: s}",
            r#"{"user":{"n":"x"}}"#,
            true,
        ),
        ("- {type: field_name_prefix, prefix: p.}", plain, r#"{"p":{"a":"x"}}"#, true),
        ("- {type: field_name_suffix, suffix: .s}", plain, r#"{"a":{"s":"x"}}"#, true),
        (
            "- {type: drop_detection_item, field_name_conditions: [{type: include_fields, fields: [b]}]}",
            "{s: {a: x, b: y}, condition: s}",
            r#"{"a":"x"}"#,
            true,
        ),
        (
            "- {type: add_condition, conditions: {p: $product}, template: true}",
            plain,
            r#"{"a":"x","p":"linux"}"#,
            true,
        ),
        ("- {type: add_condition, conditions: {p: $product}, template: true}", plain, r#"{"a":"x"}"#, false),
        ("- {type: add_condition, conditions: {p: y}, negated: true}", plain, r#"{"a":"x","p":"y"}"#, false),
        ("- {type: add_condition, conditions: {p: y}, negated: true}", plain, r#"{"a":"x"}"#, true),
    ]);
}

#[test]
fn values_are_transformed() {
    let plain = "{s: {a: x}, condition: s}";
    check_all(&[
        (
            r"- {type: replace_string, regex: '^(.)-(.)$', replacement: '\2+\g<1>'}",
            "{s: {a: x-y}, condition: s}",
            r#"{"a":"y+x"}"#,
            true,
        ),
        (
            "- {type: replace_string, regex: '[*]', replacement: '!', skip_special: true}",
            "{s: {a: 'x*'}, condition: s}",
            r#"{"a":"xyz"}"#,
            true,
        ),
        ("- {type: map_string, mapping: {x: [y, z]}}", plain, r#"{"a":"z"}"#, true),
        ("- {type: map_string, mapping: {x: [y, z]}}", plain, r#"{"a":"x"}"#, false),
        ("- {type: set_value, value: 7}", plain, r#"{"a":7}"#, true),
        ("- {type: convert_type, target_type: num}", "{s: {a: '7.0'}, condition: s}", r#"{"a":7}"#, true),
        ("- {type: convert_type, target_type: str}", "{s: {a: 7}, condition: s}", r#"{"a":7}"#, true),
        (
            "- {type: value_placeholders}",
            "{s: {a|expand: '%admins%'}, condition: s}",
            r#"{"a":"admin"}"#,
            true,
        ),
        (
            "- {type: value_placeholders, exclude: [x]}",
            "{s: {a|expand: 'u-%admins%'}, condition: s}",
            r#"{"a":"u-root"}"#,
            true,
        ),
        (
            "- {type: wildcard_placeholders}",
            "{s: {a|expand: 'x%any%'}, condition: s}",
            r#"{"a":"xyz"}"#,
            true,
        ),
    ]);
}

#[test]
fn conditions_of_steps() {
    let mapped = |conditions: &str| {
        let steps = format!("- {{id: m, type: field_name_mapping, mapping: {{a: b}}, {conditions}}}");
        matches(&steps, "{s: {a: x}, t: {c: 'y*', d: null}, condition: s or t}", r#"{"b":"x"}"#)
    };
    for (conditions, expect) in [
        ("rule_conditions: [{type: logsource, product: linux}]", true),
        ("rule_conditions: [{type: logsource, product: windows}]", false),
        ("rule_conditions: [{type: logsource, product: windows}], rule_cond_not: true", true),
        ("rule_conditions: [{type: contains_field, field: c}, {type: tag, tag: attack.t1}]", true),
        ("rule_conditions: [{type: contains_field, field: z}, {type: tag, tag: attack.t1}]", false),
        (
            "rule_conditions: [{type: contains_field, field: z}, {type: is_sigma_rule}], rule_cond_op: or",
            true,
        ),
        (
            "rule_conditions: {x: {type: contains_field, field: z}, y: {type: is_sigma_rule}}, rule_cond_expr: not x and y",
            true,
        ),
        ("rule_conditions: [{type: contains_detection_item, field: a, value: x}]", true),
        ("rule_conditions: [{type: contains_detection_item, field: a, value: y}]", false),
        ("rule_conditions: [{type: rule_attribute, attribute: level, value: high}]", true),
        ("rule_conditions: [{type: rule_attribute, attribute: tags, value: attack.t2, op: in}]", false),
        ("rule_conditions: [{type: is_sigma_correlation_rule}]", false),
        ("rule_conditions: [{type: processing_item_applied, processing_item_id: x}]", false),
        ("detection_item_conditions: [{type: match_string, pattern: '[xyz]'}]", true),
        ("detection_item_conditions: [{type: match_string, pattern: '[xyz]', negate: true}]", false),
        ("detection_item_conditions: [{type: match_value, value: x}]", true),
        ("detection_item_conditions: [{type: contains_wildcard}]", false),
        ("detection_item_conditions: [{type: is_null}]", false),
        ("field_name_conditions: [{type: include_fields, fields: [a]}]", true),
        ("field_name_conditions: [{type: exclude_fields, fields: [a]}]", false),
        ("field_name_conditions: [{type: include_fields, fields: ['[ab]$'], mode: re}]", true),
    ] {
        assert_eq!(mapped(conditions), expect, "{conditions}");
    }
    let two = "- {id: m, type: field_name_mapping, mapping: {a: b}}\n\
        - {type: field_name_suffix, suffix: .z, field_name_conditions: [{type: processing_item_applied, processing_item_id: m}]}";
    assert!(matches(two, "{s: {a: x}, condition: s}", r#"{"b":{"z":"x"}}"#));
    assert!(!matches(two, "{s: {c: x}, condition: s}", r#"{"c":{"z":"x"}}"#));
}

#[test]
fn pipelines_are_applied_in_the_order_of_their_priority() {
    let pipeline = |priority: i64, from: &str, to: &str| {
        format!(
            "priority: {priority}\ntransformations:\n- {{type: field_name_mapping, mapping: {{{from}: {to}}}}}\n---\n"
        )
    };
    let rule = "title: t\ndetection: {s: {a: x}, condition: s}";
    for (first, second, field) in [(1, 2, "c"), (2, 1, "b")] {
        let text = [pipeline(first, "a", "b"), pipeline(second, "b", "c"), rule.to_owned()].concat();
        let loaded = read(text);
        assert_eq!(loaded.errors, []);
        let mut evaluator = Evaluator::new(Arc::new(RuleSet::compile(loaded.rules)));
        let mut found = Vec::new();
        evaluator.matches(format!("{{\"{field}\":\"x\"}}").as_bytes(), &mut found);
        assert_eq!(found, [0]);
    }
}

#[test]
fn public_names_of_kubernetes_rules_find_raw_audit_events() {
    let source = "logsource: {product: kubernetes, service: audit}";
    let matches = |items: &str, event: &str| {
        let loaded = read(format!("title: t\n{source}\ndetection: {{s: {{{items}}}, condition: s}}"));
        assert_eq!(loaded.errors, []);
        let mut evaluator = Evaluator::new(Arc::new(RuleSet::compile(loaded.rules)));
        let mut found = Vec::new();
        evaluator.matches(event.as_bytes(), &mut found);
        !found.is_empty()
    };
    let pod = r#"{"verb":"create","objectRef":{"resource":"pods","apiGroup":"apps"},"requestObject":{"spec":
        {"volumes":[{"hostPath":{"path":"/"}}],"containers":[{"securityContext":{"privileged":true,
        "capabilities":{"add":["SYS_ADMIN"]}}}]}},"annotations":{"authorization.k8s.io/decision":"allow"}}"#;
    for items in [
        "verb: create, objectRef.resource: pods, hostPath: '*'",
        "verb: create, capabilities: '*'",
        "privileged: true, apiGroup: apps",
        "responseStatus.code: 'ALLOW'",
    ] {
        assert!(matches(items, pod), "{items}");
        assert!(!matches(items, r#"{"verb":"create","objectRef":{"resource":"pods"}}"#), "{items}");
    }
    assert!(matches("responseStatus.code: [401, 403]", r#"{"responseStatus":{"code":403}}"#));
}

#[test]
fn what_is_wrong_with_pipelines_is_said_with_its_line() {
    let rule = "---\ntitle: t\ndetection:\n  s:\n    a: x\n  condition: s";
    let steps =
        |step: &str, count| format!("transformations:\n{}{rule}", format!("- {step}\n").repeat(count));
    let replaced = steps(r"{type: replace_string, regex: '^.*$', replacement: '\g<0>\g<0>'}", 20);
    let mapped = steps("{type: field_name_mapping, mapping: {a: [a, a, a, a, a, a, a, a, a, a]}}", 6);
    for (text, line, reason) in [
        ("transformations:\n- {type: shout}".to_owned(), 2, "\"shout\" is unknown"),
        ("transformations:\n- {kind: x}".to_owned(), 2, "type is missing"),
        ("transformations:\n- {type: field_name_prefix}".to_owned(), 2, "prefix is missing"),
        (
            "transformations:\n- {type: field_name_prefix, prefix: x,\n  sufix: y}".to_owned(),
            3,
            "unknown key \"sufix\"",
        ),
        (
            "transformations:\n- {type: replace_string, regex: '(', replacement: x}".to_owned(),
            2,
            "not a regular",
        ),
        (
            r"transformations: [{type: replace_string, regex: a, replacement: '\1'}]".to_owned(),
            1,
            "no group \"1\"",
        ),
        ("transformations: []\npostprocessing: []".to_owned(), 2, "queries of other systems"),
        ("transformations: []\npriority: high".to_owned(), 1, "whole number"),
        (format!("transformations: [{{type: rule_failure, message: no way}}]\n{rule}"), 3, "no way"),
        (
            format!("transformations: [{{type: detection_item_failure, message: not this}}]\n{rule}"),
            6,
            "not this",
        ),
        (
            "transformations:\n- {type: set_value, value: 1,\n  rule_conditions: [{type: x}]}".to_owned(),
            3,
            "condition \"x\"",
        ),
        (replaced, 26, "longer than"),
        (mapped, 12, "more than 100000 values"),
    ] {
        let errors = errors(&text);
        let told = errors.iter().any(|error| error.line == line && error.reason.contains(reason));
        assert!(told, "{text}: {errors:?}");
    }
}
