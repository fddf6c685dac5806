use serde_json::{Value, json};
use watchbell_event::Timestamp;

use super::super::tests::document;

/// The members of the line's document apart from its time and the line itself.
fn read(line: &str) -> Value {
    let mut document = document(line);
    let members = document.as_object_mut().unwrap();
    members.remove("@timestamp");
    if members.get("message") == Some(&line.into()) {
        members.remove("message");
    }
    document
}

fn check(cases: &[(&str, Value)]) {
    for (line, expect) in cases {
        assert_eq!(read(line), *expect, "{line}");
    }
}

#[test]
fn access_logs_of_web_servers() {
    check(&[
        (
            r#"20.38.166.115 - - [21/Feb/2018:17:26:53 +0000] "GET /a?token=1 HTTP/1.0" 500 2216"#,
            json!({"event.dataset": "http.access", "source.ip": "20.38.166.115", "http.request.method": "GET",
                "http.version": "1.0", "url.original": "/a?token=1", "url.path": "/a", "url.query": "token=1",
                "http.response.status_code": 500, "event.category": "web", "event.outcome": "failure",
                "http.response.bytes": 2216}),
        ),
        (
            r#"::1 - a [b] c [21/Feb/2018:17:26:53 +0000] "POST /login HTTP/1.1" 401 - "https://a/" "curl/8 \"x\"""#,
            json!({"event.dataset": "http.access", "source.ip": "::1", "user.name": "a [b] c",
                "http.request.method": "POST", "http.version": "1.1", "url.original": "/login", "url.path": "/login",
                "http.response.status_code": 401, "event.category": "web", "event.outcome": "failure",
                "http.request.referrer": "https://a/", "user_agent.original": r#"curl/8 \"x\""#}),
        ),
        (
            r#"shop.example:443 10.0.0.9 - eve [21/Feb/2018:17:26:53 +0000] "\x16\x03" 400 5"#,
            json!({"event.dataset": "http.access", "source.ip": "10.0.0.9", "url.domain": "shop.example",
                "user.name": "eve", "url.original": r"\x16\x03", "http.response.status_code": 400,
                "event.category": "web", "event.outcome": "failure", "http.response.bytes": 5}),
        ),
        (
            r#"10.1.1.1 - - [31/Jan/2026:08:15:00 +0000] "GET / HTTP/2.0" 200 12 "-" "Mozilla/5.0" 300 0.004 [shop-web-80] [] 10.2.2.2:8080 12 0.004 200 5f3a"#,
            json!({"event.dataset": "nginx.access", "source.ip": "10.1.1.1", "http.request.method": "GET",
                "http.version": "2.0", "url.original": "/", "url.path": "/", "http.response.status_code": 200,
                "event.category": "web", "event.outcome": "success", "http.response.bytes": 12,
                "user_agent.original": "Mozilla/5.0", "http.request.bytes": 300, "event.duration": 4_000_000,
                "destination.address": "10.2.2.2:8080", "http.request.id": "5f3a"}),
        ),
        (
            r#"2026/01/31 08:15:00 [error] 29#30: *1 user "bob": password mismatch, client: 10.0.0.9, server: x, request: "GET /admin HTTP/1.1", host: "x""#,
            json!({"event.dataset": "nginx.error", "log.level": "error", "process.pid": 29,
                "event.category": "authentication", "event.action": "http_basic_authentication",
                "event.outcome": "failure", "event.reason": "password mismatch", "user.name": "bob",
                "source.ip": "10.0.0.9", "http.request.method": "GET", "http.version": "1.1",
                "url.original": "/admin", "url.path": "/admin"}),
        ),
    ]);
}

#[test]
fn access_logs_of_envoy() {
    check(&[
        (
            r#"[2026-01-31T08:15:00.123Z] "GET /a HTTP/1.1" 403 - 0 19 1 - "1.2.3.4" "curl/8" "id-1" "shop" "-""#,
            json!({"event.dataset": "envoy.access", "http.request.method": "GET", "http.version": "1.1",
                "url.original": "/a", "url.path": "/a", "http.response.status_code": 403, "event.category": "web",
                "event.outcome": "failure", "http.request.bytes": 0, "http.response.bytes": 19,
                "event.duration": 1_000_000, "network.forwarded_ip": "1.2.3.4", "user_agent.original": "curl/8",
                "http.request.id": "id-1", "url.domain": "shop"}),
        ),
        (
            r#"[2026-01-31T08:15:00.123Z] "GET /a HTTP/1.1" 403 - rbac_access_denied_matched_policy[none] - "-" 0 19 0 - "-" "curl/8" "id-1" "shop:80" "-" inbound|80|| - 10.244.0.7:80 10.244.1.9:51234 outbound_.80_._.shop default"#,
            json!({"event.dataset": "istio.access", "http.request.method": "GET", "http.version": "1.1",
                "url.original": "/a", "url.path": "/a", "http.response.status_code": 403, "event.category": "web",
                "event.outcome": "failure", "event.reason": "rbac_access_denied_matched_policy[none]",
                "http.request.bytes": 0, "http.response.bytes": 19, "event.duration": 0,
                "user_agent.original": "curl/8", "http.request.id": "id-1", "url.domain": "shop:80",
                "source.ip": "10.244.1.9", "source.port": 51234}),
        ),
        (
            r#"[2026-01-31T08:15:00.123Z] "- - -" 0 UH - - "-" 0 0 0 - "-" "-" "-" "-" "-" - - 10.0.0.1:1 10.0.0.2:2 - -"#,
            json!({"event.dataset": "istio.access", "http.response.status_code": 0, "event.category": "web",
                "event.outcome": "failure", "event.reason": "UH", "http.request.bytes": 0,
                "http.response.bytes": 0, "event.duration": 0, "source.ip": "10.0.0.2", "source.port": 2}),
        ),
    ]);
}

#[test]
fn logins_by_ssh() {
    let login = |outcome: &str, user: &str| {
        json!({"event.dataset": "sshd", "event.category": "authentication", "event.action": "ssh_login",
            "event.outcome": outcome, "user.name": user, "source.ip": "10.0.0.9", "source.port": 22})
    };
    let mut unknown = login("failure", "a from 6.6.6.6 port 1 ssh2");
    unknown["event.reason"] = "invalid user".into();
    check(&[
        ("Failed password for root from 10.0.0.9 port 22 ssh2", login("failure", "root")),
        (
            "Accepted publickey for bob from 10.0.0.9 port 22 ssh2: RSA x from 6.6.6.6 port 1",
            login("success", "bob"),
        ),
        ("Failed password for invalid user a from 6.6.6.6 port 1 ssh2 from 10.0.0.9 port 22 ssh2", unknown),
        (
            "message repeated 2 times: [ Failed password for root from 10.0.0.9 port 22 ssh2]",
            login("failure", "root"),
        ),
        (
            "Invalid user  from 10.0.0.9 port 22",
            json!({"event.dataset": "sshd", "event.category": "authentication", "event.action": "ssh_invalid_user",
                "event.outcome": "failure", "event.reason": "invalid user", "source.ip": "10.0.0.9",
                "source.port": 22}),
        ),
        (
            "Disconnected from authenticating user root 10.0.0.9 port 22 [preauth]",
            json!({"event.dataset": "sshd", "event.category": "authentication", "event.action": "ssh_disconnect",
                "user.name": "root", "source.ip": "10.0.0.9", "source.port": 22}),
        ),
        (
            "User eve from 10.0.0.9 not allowed because not listed in AllowUsers",
            json!({"event.dataset": "sshd", "event.category": "authentication", "event.action": "ssh_refused",
                "event.outcome": "failure", "event.reason": "user not allowed", "user.name": "eve",
                "source.ip": "10.0.0.9"}),
        ),
        ("Failed to pull image for pod from 10.0.0.9 port 22", json!({"event.dataset": "text"})),
    ]);
}

#[test]
fn messages_of_pam_and_sudo_behind_a_syslog_header() {
    check(&[
        (
            "<86>Jan 31 08:15:00 node-1 sshd[77]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=10.0.0.9  user=root rhost=6.6.6.6",
            json!({"event.dataset": "pam", "log.syslog.priority": 86, "log.syslog.facility.code": 10,
                "log.syslog.severity.code": 6, "log.level": "info", "line": {"host.name": "node-1"},
                "process.name": "sshd", "process.pid": 77, "event.category": "authentication",
                "event.action": "pam_authentication", "event.outcome": "failure", "source.ip": "10.0.0.9",
                "user.name": "root rhost=6.6.6.6"}),
        ),
        (
            "2026-01-31T08:15:00.123456+00:00 node-1 sudo[5]:   bob : user NOT in sudoers ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
            json!({"event.dataset": "sudo", "line": {"host.name": "node-1"}, "process.name": "sudo",
                "process.pid": 5, "event.category": "process", "event.action": "sudo", "event.outcome": "failure",
                "event.reason": "user NOT in sudoers", "user.name": "bob", "process.command_line": "/bin/sh",
                "user.effective.name": "root"}),
        ),
        (
            "Jan 31 08:15:00 node-1 cron: ran",
            json!({"event.dataset": "syslog", "line": {"host.name": "node-1"}, "process.name": "cron"}),
        ),
        (
            "pam_unix(su:session): session opened for user root(uid=0) by (uid=1000)",
            json!({"event.dataset": "pam", "process.name": "su", "event.category": "session",
                "event.action": "pam_session_opened", "event.outcome": "success", "user.name": "root"}),
        ),
    ]);
}

#[test]
fn structured_lines() {
    check(&[
        (
            r#"I0131 08:15:00.123456       1 proxy.go:12] "Dropped" pod="shop/web" count=3"#,
            json!({"event.dataset": "klog", "log.level": "info", "log.origin.file.name": "proxy.go",
                "log.origin.file.line": 12, "process.thread.id": 1, "pod": "shop/web", "count": "3"}),
        ),
        (
            r#"time="2026-01-31T08:15:00Z" level=warn msg="a \"b\"" user=bob status=401 method=GET"#,
            json!({"event.dataset": "logfmt", "log.level": "warning", "user.name": "bob",
                "http.response.status_code": 401, "http.request.method": "GET", "event.category": "web",
                "event.outcome": "failure", "time": "2026-01-31T08:15:00Z", "level": "warn", "msg": "a \"b\"",
                "status": "401", "method": "GET", "line": {"user": "bob"}}),
        ),
        (
            r#"{"level":30,"msg":"hi","user":{"name":"bob","id":7},"kubernetes":{"pod_name":"forged"},"n":1.50}"#,
            json!({"event.dataset": "json", "message": "hi", "log.level": "info", "user.name": "bob", "user.id": 7,
                "level": 30, "msg": "hi", "n": 1.5,
                "line": {"user": {"name": "bob", "id": 7}, "kubernetes": {"pod_name": "forged"}}}),
        ),
        (
            r#"{"message":"x","orchestrator.namespace":"forged","a":1,"a":2,"b":"\ud800","c":1e999}"#,
            json!({"event.dataset": "json", "message": "x", "a": 2, "b": "\u{fffd}", "c": "1e999",
                "line": {"orchestrator.namespace": "forged"}}),
        ),
        ("a=1 b=2", json!({"event.dataset": "logfmt", "a": "1", "b": "2"})),
        ("The value a=1 and b=2", json!({"event.dataset": "text"})),
        ("2026-01-31 08:15:00 [WARN] low", json!({"event.dataset": "text", "log.level": "warning"})),
        (
            "2026-01-31 08:15:00,123 ERROR main - failed",
            json!({"event.dataset": "text", "log.level": "error"}),
        ),
        ("an error in a sentence", json!({"event.dataset": "text"})),
        (r#"{"a":1"#, json!({"event.dataset": "text"})),
        ("[1,2]", json!({"event.dataset": "text"})),
    ]);
}

#[test]
fn lines_are_as_old_as_they_say() {
    for (line, expect) in [
        ("Dec 31 23:59:59 node-1 cron: ran", "2025-12-31T23:59:59Z"),
        (r#"1.1.1.1 - - [21/Feb/2018:17:26:53 +0100] "GET / HTTP/1.0" 200 1"#, "2018-02-21T16:26:53Z"),
        (r#"{"ts":1769847300.5,"msg":"x"}"#, "2026-01-31T08:15:00.5Z"),
        ("nothing about time", "2026-01-31T08:15:01Z"),
        ("2099-01-01T00:00:00Z from the future", "2026-01-31T08:15:01Z"),
    ] {
        let time: Timestamp = document(line)["@timestamp"].as_str().unwrap().parse().unwrap();
        assert_eq!(time, expect.parse().unwrap(), "{line}");
    }
}
