//! `tls:` HTTPS, and which client certificates stand for which clusters.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Section;
use crate::tokens::check_cluster_name;

/// HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsConfig {
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
    pub(crate) clients: Option<ClientsConfig>,
    /// How often the files, and this section, are looked at.
    pub(crate) reload_interval: Duration,
}

/// Client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientsConfig {
    pub(crate) ca_file: PathBuf,
    /// Lists of revoked certificates; with any, every issuer of a client certificate needs one.
    pub(crate) crl_files: Vec<PathBuf>,
    /// Refuse connections without a certificate.
    pub(crate) required: bool,
    /// Common names, DNS names and URIs of certificates, and the cluster each may send events of.
    pub(crate) clusters: BTreeMap<String, String>,
}

/// Longest name of a certificate, in bytes.
const MAX_NAME_BYTES: usize = 1_024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientAuth {
    None,
    Optional,
    Required,
}

impl TlsConfig {
    pub(super) fn read(section: Section<'_>) -> Option<Self> {
        let (cert_file, key_file) = (section.path("cert_file"), section.path("key_file"));
        let clients = ClientsConfig::read(&section);
        let reload_interval = section.duration("reload_interval", Duration::from_secs(5));
        let tls = match (cert_file, key_file) {
            (Some(cert_file), Some(key_file)) => Some(Self { cert_file, key_file, clients, reload_interval }),
            (None, None) if clients.is_none() => None,
            _ => {
                section.errors().add(section.line(), "tls needs both cert_file and key_file");
                None
            }
        };
        section.finish();
        tls
    }
}

impl ClientsConfig {
    fn read(section: &Section<'_>) -> Option<Self> {
        let ca_file = section.path("client_ca_file");
        let default = if ca_file.is_some() { ClientAuth::Optional } else { ClientAuth::None };
        let auth = section.parsed("client_auth", default, |text| match text {
            "none" => Ok(ClientAuth::None),
            "optional" => Ok(ClientAuth::Optional),
            "required" => Ok(ClientAuth::Required),
            _ => Err(format!("unknown value {text:?}; known: none, optional, required")),
        });
        let crl_files: Vec<_> = section.texts("client_crl_files").into_iter().map(PathBuf::from).collect();
        let clusters = read_clusters(&section.section("client_clusters"));
        let Some(ca_file) = ca_file else {
            if auth != ClientAuth::None || !crl_files.is_empty() || !clusters.is_empty() {
                let reason = "tls: client certificates need client_ca_file, the authority that signs them";
                section.errors().add(section.line(), reason);
            }
            return None;
        };
        let required = auth == ClientAuth::Required;
        (auth != ClientAuth::None).then_some(Self { ca_file, crl_files, required, clusters })
    }
}

/// `client_clusters: {NAME: CLUSTER}`.
fn read_clusters(section: &Section<'_>) -> BTreeMap<String, String> {
    let mut clusters = BTreeMap::new();
    for entry in section.entries() {
        let name = section.name(&entry.key);
        let cluster = entry.value.scalar_text().unwrap_or_default();
        if entry.key.is_empty() || entry.key.len() > MAX_NAME_BYTES {
            let reason = format!("{name}: the name of a certificate has 1 to {MAX_NAME_BYTES} bytes");
            section.errors().add(entry.line, reason);
        } else if let Err(error) = check_cluster_name(&cluster) {
            section.errors().add(entry.line, format!("{name}: {error}"));
        }
        clusters.insert(entry.key.clone(), cluster);
    }
    clusters
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn read(tls: &str) -> Result<Option<super::TlsConfig>, String> {
        let text = format!("tls: {{cert_file: c, key_file: k, {tls}}}");
        Config::parse(&text, "w.yaml").map(|config| config.tls).map_err(|error| error.to_string())
    }

    #[test]
    fn client_certificates_are_optional_unless_said_otherwise() {
        let clients = |tls: &str| read(tls).unwrap().unwrap().clients;
        assert_eq!(clients(""), None);
        assert_eq!(clients("client_ca_file: a, client_auth: none"), None);
        assert!(!clients("client_ca_file: a").unwrap().required);
        let mapped = clients(
            "client_ca_file: a, client_auth: required, client_clusters: {prod-api: prod, 'spiffe://x/y': edge}",
        );
        let mapped = mapped.unwrap();
        assert!(mapped.required);
        assert_eq!(mapped.clusters["spiffe://x/y"], "edge");
    }

    #[test]
    fn what_cannot_work_is_told() {
        for (tls, reason) in [
            ("client_auth: required", "client certificates need client_ca_file"),
            ("client_clusters: {a: b}", "client certificates need client_ca_file"),
            ("client_ca_file: a, client_auth: maybe", "tls.client_auth: unknown value \"maybe\""),
            ("client_ca_file: a, client_clusters: {a: 'b/c'}", "tls.client_clusters.a: a cluster name is"),
            ("client_ca_file: a, client_clusters: {'': b}", "the name of a certificate has"),
        ] {
            let error = read(tls).unwrap_err();
            assert!(error.contains(reason), "{tls}: {error}");
        }
        let alone = Config::parse("tls: {client_ca_file: a}", "w.yaml").unwrap_err().to_string();
        assert!(alone.contains("tls needs both cert_file and key_file"), "{alone}");
    }
}
