//! `alerting:` in the shape of Alertmanager's configuration: receivers, and a tree of routes to them.

use std::num::NonZeroU32;
use std::time::Duration;

use watchbell_alerting::notify::{
    EmailConfig, Guard, HttpConfig, QuotaConfig, Receiver, ReceiverConfig, ReceiverKind, Secret, SlackConfig,
    SmtpSecurity, WebhookConfig,
};
use watchbell_alerting::route::{MAX_DEPTH, Route, Router};
use watchbell_alerting::{DispatchConfig, StoreConfig};

use super::days;
use super::reader::{Reported, Section};
use crate::files;

/// Who is told of what.
#[derive(Debug)]
pub(crate) struct AlertingConfig {
    pub(crate) store: StoreConfig,
    pub(crate) dispatch: DispatchConfig,
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) router: Router,
}

const MAX_PEM_BYTES: u64 = 1 << 20;
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);

impl AlertingConfig {
    pub(super) fn read(section: Section<'_>) -> Self {
        let dispatch = read_dispatch(&section);
        let (receivers, names) = read_receivers(&section);
        let route = section.section("route");
        let route_line = route.line();
        let root = read_route(route, 0);
        if !names.is_empty() && !leads_to_somebody(&root) {
            let reason = "alerting.receivers are given, but no route leads to one, so that nobody would be told; set \
                          alerting.route.receiver";
            section.errors().add(section.line_of("receivers"), reason.to_owned());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let router = Router::new(root, &names).unwrap_or_else(|error| {
            section.errors().add(route_line, format!("alerting.route: {error}"));
            Router::default()
        });
        let config = Self { store: read_store(&section), dispatch, receivers, router };
        section.finish();
        config
    }
}

fn leads_to_somebody(route: &Route) -> bool {
    route.receiver.is_some() || route.routes.iter().any(leads_to_somebody)
}

fn read_store(section: &Section<'_>) -> StoreConfig {
    let default = StoreConfig::default();
    let retention = section.duration_from("retention", days(u64::from(default.retention_days)), days(1));
    StoreConfig {
        quiet_ms: millis(section.duration("quiet_time", Duration::from_millis(default.quiet_ms))),
        repeat_interval_ms: millis(
            section.duration("repeat_interval", Duration::from_millis(default.repeat_interval_ms)),
        ),
        retention_days: u32::try_from(retention.as_secs() / 86_400).unwrap_or(u32::MAX).max(1),
        max_alerts: section.integer("max_alerts", default.max_alerts, 1_000, 100_000_000),
        ..default
    }
}

fn read_dispatch(section: &Section<'_>) -> DispatchConfig {
    let default = DispatchConfig::default();
    let external_url = section.text("external_url");
    if external_url.as_deref().is_some_and(|url| !leads_here(url)) {
        let reason =
            "alerting.external_url must be an http or https address without user, password and query";
        section.errors().add(section.line_of("external_url"), reason);
    }
    DispatchConfig { external_url: external_url.map(|url| url.trim_end_matches('/').to_owned()), ..default }
}

/// Whether paths can be put behind an address.
fn leads_here(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            // Links are in messages and logs.
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

/// The receivers, and the names of all that are given: a route to one that is broken is no mistake of its own.
fn read_receivers(section: &Section<'_>) -> (Vec<Receiver>, Vec<String>) {
    let (mut receivers, mut names): (Vec<Receiver>, Vec<String>) = Default::default();
    for section in section.sections("receivers") {
        let name = section.required_text("name");
        if names.contains(&name) {
            section.errors().add(section.line(), format!("receiver {name:?} is given twice"));
        }
        names.push(name.clone());
        let quota = read_quota(section.section("quota"));
        let group_wait_ms = section
            .get("group_wait")
            .is_some()
            .then(|| millis(section.duration("group_wait", Duration::ZERO)));
        let kinds: Vec<Result<ReceiverKind, Reported>> =
            [read_email(&section), read_slack(&section), read_webhook(&section)]
                .into_iter()
                .flatten()
                .collect();
        let (line, errors) = (section.line(), section.errors());
        match <[_; 1]>::try_from(kinds) {
            Ok([Ok(kind)]) => {
                match Receiver::new(ReceiverConfig { name: name.clone(), kind, quota, group_wait_ms }) {
                    Ok(receiver) => receivers.push(receiver),
                    Err(error) => errors.add(line, format!("receiver {name:?}: {error}")),
                }
            }
            Ok([Err(Reported)]) => {}
            Err(_) => {
                errors.add(
                    line,
                    format!("receiver {name:?} must have exactly one of email, slack and webhook"),
                );
            }
        }
        section.finish();
    }
    (receivers, names)
}

fn read_quota(section: Section<'_>) -> Option<QuotaConfig> {
    let given = section.get("per_message").is_some() || section.get("burst").is_some();
    let burst = u32::try_from(section.integer("burst", 1, 1, 1_000_000)).unwrap_or(1);
    let per_message = section.duration("per_message", Duration::from_secs(1));
    section.finish();
    given.then(|| QuotaConfig {
        burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
        per_message_ms: millis(per_message),
    })
}

fn read_email(section: &Section<'_>) -> Option<Result<ReceiverKind, Reported>> {
    section.get("email")?;
    let email = section.section("email");
    let smtp = email.required_text("smtp");
    let (host, port) = split_host_port(&smtp).unwrap_or_else(|| {
        let reason = format!("{} must be HOST or HOST:PORT", email.name("smtp"));
        email.errors().add(email.line_of("smtp"), reason);
        (smtp.clone(), None)
    });
    let security = email.parsed("tls", SmtpSecurity::StartTls, |text| match text {
        "starttls" => Ok(SmtpSecurity::StartTls),
        "tls" => Ok(SmtpSecurity::Tls),
        "none" => Ok(SmtpSecurity::None),
        _ => Err(format!("unknown mode {text:?}; known: starttls, tls, none")),
    });
    let from = email.required_text("from");
    let to = email.texts("to");
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let username = email.text("username");
    let password = email.secret("password", "password_file", "password_env");
    let unreadable = password.is_err();
    let login = match (username, password) {
        (Some(username), Ok(Some(password))) => Some((username, Secret::new(password))),
        (None, Ok(None)) | (_, Err(Reported)) => None,
        _ => {
            email.errors().add(email.line(), "email needs both username and password, or neither");
            None
        }
    };
    let default_port = if security == SmtpSecurity::Tls { 465 } else { 587 };
    let defaults = EmailConfig::new(&host, &from, &to);
    let config = EmailConfig {
        port: port.unwrap_or(default_port),
        security,
        login,
        extra_ca_pem: read_ca(&email),
        timeout_ms: millis(email.duration_from(
            "timeout",
            Duration::from_millis(defaults.timeout_ms),
            SHORTEST_TIMEOUT,
        )),
        guard: read_guard(&email),
        ..defaults
    };
    email.finish();
    Some(if unreadable { Err(Reported) } else { Ok(ReceiverKind::Email(config)) })
}

fn read_slack(section: &Section<'_>) -> Option<Result<ReceiverKind, Reported>> {
    section.get("slack")?;
    let slack = section.section("slack");
    let http = read_http(&slack);
    slack.finish();
    Some(http.map(|http| ReceiverKind::Slack(SlackConfig { http })))
}

fn read_webhook(section: &Section<'_>) -> Option<Result<ReceiverKind, Reported>> {
    section.get("webhook")?;
    let webhook = section.section("webhook");
    let http = read_http(&webhook);
    // Several secrets, one per line, while one is being replaced.
    let secrets = webhook.secret("signing_secret", "signing_secret_file", "signing_secret_env");
    webhook.finish();
    Some(http.and_then(|http| {
        let secrets = secrets?.unwrap_or_default();
        let signing_secrets = secrets.split_whitespace().map(Secret::new).collect();
        Ok(ReceiverKind::Webhook(WebhookConfig { http, signing_secrets }))
    }))
}

fn read_http(section: &Section<'_>) -> Result<HttpConfig, Reported> {
    let url = section.secret("url", "url_file", "url_env").and_then(|url| {
        url.ok_or_else(|| {
            section.errors().add(section.line(), format!("{} is missing", section.name("url")));
            Reported
        })
    });
    let defaults = HttpConfig::new(Secret::new(url.as_deref().unwrap_or_default().trim()));
    let config = HttpConfig {
        timeout_ms: millis(section.duration_from(
            "timeout",
            Duration::from_millis(defaults.timeout_ms),
            SHORTEST_TIMEOUT,
        )),
        extra_ca_pem: read_ca(section),
        guard: read_guard(section),
        ..defaults
    };
    url.map(|_| config)
}

fn read_ca(section: &Section<'_>) -> Option<Vec<u8>> {
    let path = section.path("ca_file")?;
    match files::read(&path, MAX_PEM_BYTES) {
        Ok(pem) => Some(pem),
        Err(error) => {
            section
                .errors()
                .add(section.line_of("ca_file"), format!("{}: {error:#}", section.name("ca_file")));
            None
        }
    }
}

fn read_guard(section: &Section<'_>) -> Guard {
    Guard { allow_link_local: section.flag("allow_link_local", false) }
}

fn read_route(section: Section<'_>, depth: usize) -> Route {
    let matchers = section.texts("matchers");
    let line = section.line_of("matchers");
    let matchers = matchers.iter().filter_map(|text| match text.parse() {
        Ok(matcher) => Some(matcher),
        Err(error) => {
            section.errors().add(line, format!("{}: {text}: {error}", section.name("matchers")));
            None
        }
    });
    let min_level = section.parsed("min_level", None, |text| text.parse().map(Some));
    // `Router::new` reports a tree that is too deep; reading it must end before.
    let children = if depth <= MAX_DEPTH { section.sections("routes") } else { Vec::new() };
    let route = Route {
        receiver: section.text("receiver"),
        min_level,
        matchers: matchers.collect(),
        continue_matching: section.flag("continue", false),
        routes: children.into_iter().map(|child| read_route(child, depth + 1)).collect(),
    };
    section.finish();
    route
}

fn split_host_port(text: &str) -> Option<(String, Option<u16>)> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && (!host.contains(':') || host.starts_with('[')) => {
            Some((host.trim_matches(['[', ']']).to_owned(), Some(port.parse().ok()?)))
        }
        Some(_) => None,
        None => Some((text.to_owned(), None)),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn receivers_and_routes_are_read() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let text = "alerting:\n  receivers:\n    - name: mail\n      email: {smtp: 'mail.example.org:2525', from: w@example.org, to: a@example.org, username: u, password: p}\n    - name: hook\n      webhook: {url: 'https://example.org/x'}\n      quota: {burst: 5, per_message: 2s}\n  route:\n    receiver: mail\n    routes:\n      - receiver: hook\n        matchers: ['cluster=~\"prod-.*\"']\n        min_level: low\n";
        let config = Config::parse(text, "test").unwrap();
        let names: Vec<&str> = config.alerting.receivers.iter().map(|receiver| receiver.name()).collect();
        assert_eq!(names, ["mail", "hook"]);
    }

    #[test]
    fn links_begin_with_an_address_that_paths_can_follow() {
        for (url, is_sound) in [
            ("https://watch.example.org", true),
            ("http://watch.example.org:8080/watchbell/", true),
            ("watch.example.org", false),
            ("mailto:soc@example.org", false),
            ("https://watch.example.org/?a=b", false),
            ("https://user:sesame@watch.example.org", false),
            ("https://user@watch.example.org", false),
            ("https://:sesame@watch.example.org", false),
        ] {
            let config = Config::parse(&format!("alerting: {{external_url: '{url}'}}"), "w");
            assert_eq!(config.is_ok(), is_sound, "{url}");
            assert!(config.err().is_none_or(|error| !error.to_string().contains("sesame")), "{url}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_reported_once() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        for receiver in [
            "slack: {url_file: /no/such/file}",
            "webhook: {url_env: NO_SUCH_VARIABLE}",
            "webhook: {url: 'https://example.org/x', signing_secret_file: /no/such/file}",
            "email: {smtp: x, from: f@example.org, to: [t@example.org], username: u, password_file: /no/such/file}",
            "webhook: {timeout: 1s}",
        ] {
            let text = format!(
                "alerting:\n  receivers:\n    - name: a\n      {receiver}\n  route:\n    receiver: a\n"
            );
            let message = Config::parse(&text, "w").unwrap_err().to_string();
            assert!(message.starts_with("the configuration has 1 mistake(s)"), "{receiver}\n{message}");
        }
    }

    #[test]
    fn receivers_that_no_route_leads_to_are_a_mistake() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let receivers =
            "alerting:\n  receivers:\n    - name: a\n      webhook: {url: 'https://example.org/x'}\n";
        let message = Config::parse(receivers, "w").unwrap_err().to_string();
        assert!(
            message.contains("w:2: alerting.receivers are given, but no route leads to one"),
            "{message}"
        );
        let routed = format!("{receivers}  route:\n    routes:\n      - receiver: a\n");
        assert!(Config::parse(&routed, "w").is_ok());
    }

    #[test]
    fn mistakes_name_their_line_and_never_a_secret() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let text = "alerting:\n  receivers:\n    - name: a\n      webhook: {url: 'ftp://sesame'}\n    - name: b\n    - name: c\n      email: {smtp: 'x:y', from: f@example.org, to: [], password: sesame}\n  route:\n    receiver: nobody\n    routes:\n      - matchers: [nonsense]\n        min_level: loud\n";
        let message = Config::parse(text, "w").unwrap_err().to_string();
        for expect in [
            "w:3: receiver \"a\": the URL",
            "w:5: receiver \"b\" must have exactly one of",
            "w:7: alerting.receivers[2].email.smtp must be HOST or HOST:PORT",
            "both username and password",
            "w:9: alerting.route: route to unknown receiver \"nobody\"",
            "w:11: alerting.route.routes[0].matchers: nonsense",
            "w:12: alerting.route.routes[0].min_level: unknown level \"loud\"",
        ] {
            assert!(message.contains(expect), "{expect}\n{message}");
        }
        assert!(!message.contains("sesame"), "{message}");
    }
}
