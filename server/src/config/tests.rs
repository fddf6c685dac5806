use super::*;

fn mistakes(text: &str) -> Vec<String> {
    let error = Config::parse(text, "watchbell.yaml").unwrap_err().to_string();
    error.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_setting_has_a_default() {
    for text in ["", "# nothing\n", "ingest:\nindex: ~\n"] {
        let config = Config::parse(text, "test").unwrap();
        assert!(config.listen.ip().is_loopback());
        assert!(config.rules.builtin);
    }
}

#[test]
fn named_lists_go_over_the_shipped_ones() {
    let text = "rules:\n  lists:\n    system_namespaces: [kube-system, infra]\n    trusted: eve\n";
    let lists = Config::parse(text, "watchbell.yaml").unwrap().rules.lists;
    assert_eq!(lists.get("system_namespaces").unwrap().values, ["kube-system", "infra"]);
    assert_eq!(lists.get("trusted").unwrap().values, ["eve"]);
    assert!(lists.get("workload_resources").is_some());
    let wrong = mistakes("rules:\n  lists:\n    a-b: [x]\n    c: [{d: e}]\n");
    assert!(wrong[0].starts_with("watchbell.yaml:3: rules.lists.a-b: the name of a list"), "{wrong:?}");
    assert_eq!(wrong[1], "watchbell.yaml:4: rules.lists.c: the values must be a list of texts");
}

#[test]
fn files_to_follow_are_read() {
    let text = "files:\n  - path: /var/log/pods/*/*/*.log\n    cluster: prod\n    exclude: /var/log/pods/x_*/*/*.log\n\
        \x20   format: json\n";
    let files = Config::parse(text, "test").unwrap().files;
    assert_eq!((files.sources.len(), &*files.sources[0].cluster), (1, "prod"));
    assert_eq!(files.sources[0].exclude.len(), 1);
    let wrong = mistakes("files:\n  - path: var/*.log\n    cluster: a b\n    format: xml\n  - {}\n");
    let expect = [
        "watchbell.yaml:2: files[0].path \"var/*.log\": the path must begin with /",
        "watchbell.yaml:3: files[0].cluster: a cluster name is",
        "watchbell.yaml:4: files[0].format: unknown format",
        "watchbell.yaml:5: files[1].path is missing",
        "watchbell.yaml:5: files[1].cluster is missing",
    ];
    assert_eq!(wrong.len(), expect.len(), "{wrong:#?}");
    for (mistake, expect) in wrong.iter().zip(expect) {
        assert!(mistake.starts_with(expect), "{mistake}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_with_their_lines() {
    let text = "listen: nowhere\nlisten_addr: 1\ningest:\n  max_body: large\n  dedupe_max_events: -1\n\
        index:\n  retention: 3 fortnights\ntls: {cert_file: a}\nrules: 7\n";
    let mistakes = mistakes(text);
    let expect = [
        (1, "listen must be an address with port"),
        (2, "unknown setting \"listen_addr\"; known: "),
        (4, "ingest.max_body must be a size"),
        (5, "ingest.dedupe_max_events must be a whole number"),
        (7, "index.retention must be a time span"),
        (8, "tls needs both"),
        (9, "rules must be a mapping, but is a number"),
    ];
    assert_eq!(mistakes.len(), expect.len(), "{mistakes:#?}");
    for (mistake, (line, reason)) in mistakes.iter().zip(expect) {
        assert!(mistake.starts_with(&format!("watchbell.yaml:{line}: {reason}")), "{mistake}");
    }
}

#[test]
fn a_level_that_would_silence_the_log_is_a_mistake() {
    for (level, is_sound) in [
        ("debug", true),
        ("info,watchbell_query=trace", true),
        ("loud", false),
        ("a,b", false),
        ("off", true),
    ] {
        let text = format!("log: {{level: '{level}'}}\n");
        assert_eq!(Config::parse(&text, "test").is_ok(), is_sound, "{level}");
    }
}

#[test]
fn values_that_could_do_nothing_are_mistakes() {
    for (text, reason) in [
        ("search: {timeout: 0s}", "search.timeout must be at least 10ms"),
        ("index: {retention: 12h}", "index.retention must be at least 1day"),
        ("alerting: {retention: 0}", "alerting.retention must be at least 1day"),
        ("shutdown_deadline: 0s", "shutdown_deadline must be at least 1s"),
        ("ingest: {redact: [password, ..]}", "ingest.redact \"..\" is no path"),
        ("ingest: {redact: ['']}", "ingest.redact \"\" is no path"),
    ] {
        let wrong = mistakes(text);
        assert!(wrong.len() == 1 && wrong[0].contains(reason), "{text}: {wrong:?}");
    }
}

#[test]
fn clusters_may_have_a_quota_of_their_own() {
    let text =
        "ingest:\n  max_body: 1MiB\n  quotas:\n    prod: {per_second: 128MiB}\n    edge: {burst: 2MiB}\n";
    let quotas = Config::parse(text, "test").unwrap().ingest.quotas;
    assert_eq!((quotas["prod"].bytes_per_second, quotas["prod"].burst_bytes), (128 << 20, 256 << 20));
    assert_eq!(quotas["edge"].burst_bytes, 2 << 20);
    let wrong = mistakes("ingest:\n  quotas:\n    a/b: {}\n    c: {burst: 1KiB}\n    d: {rate: 1}\n");
    let expect = [
        "3: ingest.quotas.a/b: a cluster name",
        "4: ingest.quotas.c.burst must be from",
        "5: unknown setting \"rate\"",
    ];
    assert_eq!(wrong.len(), expect.len(), "{wrong:#?}");
    for (wrong, expect) in wrong.iter().zip(expect) {
        assert!(wrong.starts_with(&format!("watchbell.yaml:{expect}")), "{wrong}");
    }
}

#[test]
fn values_are_read() {
    let text = "listen: '[::1]:9000'\njournal: {retention: 36h, segment_size: 64MiB}\nlog: {format: json}";
    let config = Config::parse(text, "test").unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:9000");
    assert_eq!(config.journal.retention, Duration::from_secs(36 * 3600));
    assert_eq!(config.journal.segment_bytes, 64 << 20);
    assert!(config.log.json);
}
