//! `syslog` and `forward`: listeners of their own beside HTTP, off unless they are given an address. Neither protocol
//! carries tokens, so who may send is said here.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::reader::Section;
use super::{MIB, size};
use crate::tokens::check_cluster_name;

/// Syslog over UDP, TCP and TLS.
#[derive(Debug)]
pub(crate) struct SyslogConfig {
    pub(crate) listen_tcp: Option<SocketAddr>,
    pub(crate) listen_tls: Option<SocketAddr>,
    pub(crate) listen_udp: Option<SocketAddr>,
    /// Whose events they are.
    pub(crate) cluster: String,
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
    pub(crate) cluster: String,
    pub(crate) access: AccessConfig,
    pub(crate) shared_key: Option<SharedKey>,
    pub(crate) max_connections: usize,
}

/// Who may send.
#[derive(Debug)]
pub(crate) struct AccessConfig {
    /// Addresses; everybody who can connect if there are none.
    pub(crate) allow: Vec<IpNet>,
    /// Over TLS, whose certificates senders must have.
    pub(crate) client_ca_file: Option<PathBuf>,
}

/// A secret that both sides know.
pub(crate) struct SharedKey(pub(crate) String);

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl SyslogConfig {
    /// `has_tls` says whether there is a certificate.
    pub(super) fn read(section: Section<'_>, has_tls: bool) -> Self {
        let config = Self {
            listen_tcp: section.address("listen_tcp"),
            listen_tls: section.address("listen_tls"),
            listen_udp: section.address("listen_udp"),
            cluster: section.text("cluster").unwrap_or_default(),
            access: AccessConfig::read(&section),
            max_message_bytes: size(section.bytes("max_message", 256 << 10).clamp(480, 16 * MIB)),
            max_connections: size(section.integer("max_connections", 256, 1, 100_000)),
        };
        let SyslogConfig { listen_tcp, listen_tls, listen_udp, .. } = config;
        check_cluster(&section, &config.cluster, [listen_tcp, listen_tls, listen_udp]);
        let without_tls = [("listen_tcp", listen_tcp), ("listen_udp", listen_udp)];
        for (key, address) in without_tls {
            config.access.check(&section, key, address, false);
        }
        config.access.check(&section, "listen_tls", listen_tls, config.access.client_ca_file.is_some());
        if listen_tls.is_some() && !has_tls {
            section.errors().add(section.line_of("listen_tls"), NO_CERTIFICATE);
        }
        section.finish();
        config
    }
}

impl ForwardConfig {
    /// `has_tls` says whether there is a certificate, `allow_plaintext` whether a proxy encrypts.
    pub(super) fn read(section: Section<'_>, has_tls: bool, allow_plaintext: bool) -> Self {
        let config = Self {
            listen: section.address("listen"),
            tls: section.flag("tls", false),
            cluster: section.text("cluster").unwrap_or_default(),
            access: AccessConfig::read(&section),
            shared_key: section.secret("shared_key", "shared_key_file", "shared_key_env").map(SharedKey),
            max_connections: size(section.integer("max_connections", 256, 1, 100_000)),
        };
        check_cluster(&section, &config.cluster, [config.listen]);
        let has_client_ca = config.tls && config.access.client_ca_file.is_some();
        let is_proven = config.shared_key.is_some() || has_client_ca;
        config.access.check(&section, "listen", config.listen, is_proven);
        if config.tls && !has_tls {
            section.errors().add(section.line_of("tls"), NO_CERTIFICATE);
        }
        if config.listen.is_some_and(|address| !address.ip().is_loopback()) && !config.tls && !allow_plaintext
        {
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
    fn read(section: &Section<'_>) -> Self {
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
        Self { allow, client_ca_file: section.path("client_ca_file") }
    }

    /// An address that others reach needs to know whom to believe; `is_proven` where senders prove who they are.
    fn check(&self, section: &Section<'_>, key: &'static str, address: Option<SocketAddr>, is_proven: bool) {
        let is_open = address.is_some_and(|address| !address.ip().is_loopback());
        if is_open && !is_proven && self.allow.is_empty() {
            let (name, allow) = (section.name(key), section.name("allow"));
            let reason = format!(
                "{name} is not loopback, so everybody could send: list addresses in {allow}, or have senders prove \
                 who they are (client_ca_file with TLS, shared_key of forward)"
            );
            section.errors().add(section.line_of(key), reason);
        }
    }
}

fn check_cluster<const N: usize>(section: &Section<'_>, cluster: &str, addresses: [Option<SocketAddr>; N]) {
    let is_on = addresses.iter().any(Option::is_some);
    if let (true, Err(error)) = (is_on, check_cluster_name(cluster)) {
        section.errors().add(section.line_of("cluster"), format!("{}: {error}", section.name("cluster")));
    }
}
