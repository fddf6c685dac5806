//! `syslog` and `forward`: listeners of their own beside HTTP, off unless they are given an address. Neither protocol
//! carries tokens, so who may send is said here.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::reader::Section;
use super::{MIB, TlsConfig, size};
use crate::tokens::check_cluster_name;

/// Syslog over UDP, TCP and TLS.
#[derive(Debug)]
pub(crate) struct SyslogConfig {
    pub(crate) listen_tcp: Option<SocketAddr>,
    pub(crate) listen_tls: Option<SocketAddr>,
    pub(crate) listen_udp: Option<SocketAddr>,
    pub(crate) access: AccessConfig,
    /// What is longer is cut.
    pub(crate) max_message_bytes: usize,
    pub(crate) max_connections: usize,
}

/// The forward protocol of Fluentd and Fluent Bit.
#[derive(Debug)]
pub(crate) struct ForwardConfig {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) tls: bool,
    pub(crate) access: AccessConfig,
    pub(crate) shared_key: Option<SharedKey>,
    pub(crate) max_connections: usize,
}

/// Who may send, and whose events these are.
#[derive(Clone, Debug)]
pub(crate) struct AccessConfig {
    /// Of senders that show no certificate.
    pub(crate) cluster: String,
    /// Addresses; everybody who can connect if there are none.
    pub(crate) allow: Vec<IpNet>,
    /// Over TLS, whether senders are known by nothing but their certificate, and so need one.
    pub(crate) certificate_required: bool,
}

/// A secret that both sides know.
#[derive(Clone)]
pub(crate) struct SharedKey(pub(crate) String);

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl SyslogConfig {
    /// `tls` is that of HTTP.
    pub(super) fn read(section: Section<'_>, tls: Option<&TlsConfig>, max_body_bytes: u64) -> Self {
        let max_message_bytes = section.bytes("max_message", (256 << 10).min(max_body_bytes));
        let config = Self {
            listen_tcp: section.address("listen_tcp"),
            listen_tls: section.address("listen_tls"),
            listen_udp: section.address("listen_udp"),
            access: AccessConfig::read(&section, tls, false),
            max_message_bytes: size(max_message_bytes),
            max_connections: size(section.integer("max_connections", 256, 1, 100_000)),
        };
        super::check_range(&section, "max_message", max_message_bytes, 480, max_body_bytes.min(16 * MIB));
        config.access.check(&section, "listen_tcp", config.listen_tcp, false);
        config.access.check(&section, "listen_udp", config.listen_udp, false);
        let has_certificates = config.access.certificate_required;
        config.access.check(&section, "listen_tls", config.listen_tls, has_certificates);
        let without_certificates = [config.listen_tcp, config.listen_udp];
        let is_known = has_certificates && without_certificates.iter().all(Option::is_none);
        let is_on = config.listen_tls.is_some() || without_certificates.iter().any(Option::is_some);
        config.access.check_cluster(&section, is_on && !is_known);
        if config.listen_tls.is_some() && tls.is_none() {
            section.errors().add(section.line_of("listen_tls"), NO_CERTIFICATE);
        }
        section.finish();
        config
    }
}

impl ForwardConfig {
    /// `tls` is that of HTTP; `allow_plaintext` says that a proxy encrypts.
    pub(super) fn read(section: Section<'_>, tls: Option<&TlsConfig>, allow_plaintext: bool) -> Self {
        let shared_key = section.secret("shared_key", "shared_key_file", "shared_key_env");
        // one that cannot be read was reported
        let has_secret = !matches!(shared_key, Ok(None));
        let over_tls = section.flag("tls", false);
        let config = Self {
            listen: section.address("listen"),
            tls: over_tls,
            access: AccessConfig::read(&section, tls.filter(|_| over_tls), has_secret),
            shared_key: shared_key.ok().flatten().map(SharedKey),
            max_connections: size(section.integer("max_connections", 256, 1, 100_000)),
        };
        let has_certificates = config.access.certificate_required;
        config.access.check_cluster(&section, config.listen.is_some() && !has_certificates);
        let is_proven = has_secret || has_certificates;
        config.access.check(&section, "listen", config.listen, is_proven);
        if config.tls && tls.is_none() {
            section.errors().add(section.line_of("tls"), NO_CERTIFICATE);
        }
        let is_open = config.listen.is_some_and(|address| !address.ip().is_loopback());
        if is_open && !config.tls && !allow_plaintext {
            let reason = "forward.listen is not loopback and records would travel readable: set forward.tls, or \
                allow_plaintext if something else encrypts";
            section.errors().add(section.line_of("listen"), reason);
        }
        if config.shared_key.as_ref().is_some_and(|key| key.0.is_empty()) {
            section.errors().add(section.line(), "forward.shared_key is empty");
        }
        section.finish();
        config
    }
}

const NO_CERTIFICATE: &str = "TLS needs tls.cert_file and tls.key_file at the top level";

impl AccessConfig {
    /// `tls` is what senders speak; `has_secret` says whether they prove who they are by something else.
    fn read(section: &Section<'_>, tls: Option<&TlsConfig>, has_secret: bool) -> Self {
        let mut allow = Vec::new();
        for text in section.texts("allow") {
            let address = text.parse().ok().map(|address: std::net::IpAddr| address.to_canonical().into());
            match text.parse().ok().or(address) {
                Some(network) => allow.push(network),
                None => {
                    let name = section.name("allow");
                    let reason = format!(
                        "{name} must hold addresses or blocks such as 10.0.0.0/8, but {text:?} is none"
                    );
                    section.errors().add(section.line_of("allow"), reason);
                }
            }
        }
        let has_clients = tls.is_some_and(|tls| tls.clients.is_some());
        let certificate_required = has_clients && allow.is_empty() && !has_secret;
        Self { cluster: section.text("cluster").unwrap_or_default(), allow, certificate_required }
    }

    /// An address that others reach needs to know whom to believe; `is_proven` where senders prove who they are.
    fn check(&self, section: &Section<'_>, key: &'static str, address: Option<SocketAddr>, is_proven: bool) {
        let is_open = address.is_some_and(|address| !address.ip().is_loopback());
        if is_open && !is_proven && self.allow.is_empty() {
            let (name, allow) = (section.name(key), section.name("allow"));
            let reason = format!(
                "{name} is not loopback, so everybody could send: list addresses in {allow}, or have senders prove \
                 who they are (tls.client_ca_file over TLS, shared_key of forward)"
            );
            section.errors().add(section.line_of(key), reason);
        }
    }

    /// Whoever is not known by a certificate needs a cluster.
    fn check_cluster(&self, section: &Section<'_>, is_needed: bool) {
        if !is_needed && self.cluster.is_empty() {
            return;
        }
        if let Err(error) = check_cluster_name(&self.cluster) {
            section.errors().add(section.line_of("cluster"), format!("{}: {error}", section.name("cluster")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn inputs_are_off_and_safe_unless_told_otherwise() {
        let config = Config::parse("", "test").unwrap();
        assert!(config.forward.listen.is_none() && config.syslog.listen_udp.is_none());
        let text = "syslog: {listen_udp: '127.0.0.1:514', cluster: prod}\nforward: {listen: '[::1]:24224', cluster: a}";
        assert!(Config::parse(text, "test").is_ok());
        for (text, expect) in [
            (
                "syslog: {listen_udp: '0.0.0.0:514', cluster: a}",
                "syslog.listen_udp is not loopback, so everybody",
            ),
            ("syslog: {listen_tcp: '127.0.0.1:514'}", "syslog.cluster: a cluster name is 1 to 63"),
            ("syslog: {listen_tls: '127.0.0.1:514', cluster: a}", "TLS needs tls.cert_file"),
            ("syslog: {allow: [10.0.0.0/33]}", "syslog.allow must hold addresses"),
            ("syslog: {max_message: 17MiB}", "syslog.max_message must be from 480 to"),
            (
                "ingest: {max_body: 1KiB}\nsyslog: {max_message: 2KiB}",
                "syslog.max_message must be from 480 to 1024",
            ),
            (
                "forward: {listen: '0.0.0.0:1', cluster: a, shared_key: k}",
                "forward.listen is not loopback and records",
            ),
            ("forward: {listen: '127.0.0.1:1', cluster: a, shared_key: ''}", "forward.shared_key is empty"),
        ] {
            let error = Config::parse(text, "w.yaml").unwrap_err().to_string();
            assert!(error.lines().count() == 2 && error.contains(expect), "{text}: {error}");
        }
        let open = "allow_plaintext: true\nforward: {listen: '0.0.0.0:1', cluster: a, shared_key: k}\n\
            syslog: {listen_tcp: '0.0.0.0:514', cluster: a, allow: [10.0.0.0/8, '::1']}";
        assert!(Config::parse(open, "test").is_ok());
    }

    #[test]
    fn who_is_known_by_a_certificate_alone_needs_one() {
        let read = |inputs: &str| {
            Config::parse(
                &format!("tls: {{cert_file: c, key_file: k, client_ca_file: a}}\n{inputs}"),
                "w.yaml",
            )
        };
        let syslog = |inputs: &str| read(inputs).unwrap().syslog.access.certificate_required;
        assert!(syslog("syslog: {listen_tls: '0.0.0.0:6514'}"));
        assert!(!syslog("syslog: {listen_tls: '0.0.0.0:6514', cluster: a, allow: [10.0.0.0/8]}"));
        let forward = |inputs: &str| read(inputs).unwrap().forward.access.certificate_required;
        assert!(forward("forward: {listen: '0.0.0.0:1', tls: true}"));
        assert!(!forward("forward: {listen: '0.0.0.0:1', tls: true, cluster: a, shared_key: k}"));
        assert!(!forward("forward: {listen: '127.0.0.1:1', cluster: a}"));
        let error = read("syslog: {listen_tls: '0.0.0.0:6514', listen_udp: '127.0.0.1:514'}").unwrap_err();
        assert!(error.to_string().contains("syslog.cluster: a cluster name"), "{error}");
    }
}
