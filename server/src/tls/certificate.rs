//! What is read out of certificates.

use std::fmt;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Result, anyhow};
use rustls::pki_types::CertificateDer;
use watchbell_event::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

/// Names of one certificate that are looked at.
const MAX_NAMES: usize = 64;

/// The certificate that a client showed in the handshake, where it was verified.
pub(crate) struct ClientCertificate {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) names: Vec<Name>,
    /// Since when nothing was verified again, and for which clients.
    pub(super) verified: Mutex<Option<(u64, Instant)>>,
}

/// A name that a certificate vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The one common name of the subject.
    Common(String),
    Dns(String),
    Uri(String),
}

impl ClientCertificate {
    /// Takes the certificate out of a finished handshake, if there was one.
    pub(crate) fn of(connection: &rustls::ServerConnection) -> Option<Self> {
        let chain: Vec<_> = connection
            .peer_certificates()?
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        Self::new(chain)
    }

    /// Takes a chain that begins with the client's own certificate.
    pub(super) fn new(chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        let names = names(chain.first()?);
        Some(Self { chain, names, verified: Mutex::default() })
    }
}

impl Name {
    /// True if `configured` means this name. Only DNS names ignore case.
    pub(super) fn is(&self, configured: &str) -> bool {
        match self {
            Self::Dns(name) => name.eq_ignore_ascii_case(configured),
            Self::Common(name) | Self::Uri(name) => name == configured,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Common(name) => write!(f, "CN {name:?}"),
            Self::Dns(name) => write!(f, "DNS {name:?}"),
            Self::Uri(name) => write!(f, "URI {name:?}"),
        }
    }
}

impl fmt::Display for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.is_empty() {
            return f.write_str("without a name");
        }
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(", "))
    }
}

/// Common name, DNS names and URIs. A subject with several common names has none: readers do not agree on
/// which of them counts.
fn names(certificate: &CertificateDer<'_>) -> Vec<Name> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let mut names = Vec::new();
    let mut common = certificate.subject().iter_common_name();
    if let (Some(name), None) = (common.next(), common.next()) {
        names.extend(name.as_str().ok().map(|name| Name::Common(name.to_owned())));
    }
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    names.extend(alternatives.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(Name::Dns((*name).to_owned())),
        GeneralName::URI(name) => Some(Name::Uri((*name).to_owned())),
        _ => None,
    }));
    names.truncate(MAX_NAMES);
    names
}

/// When a certificate expires.
pub(super) fn expiry(certificate: &CertificateDer<'_>) -> Result<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| anyhow!("failed to parse a certificate: {error}"))?;
    Ok(timestamp(certificate.validity().not_after))
}

/// When the successor of a list of revoked certificates is due, if it says so.
pub(super) fn next_update(list: &[u8]) -> Result<Option<Timestamp>> {
    let (_, list) = CertificateRevocationList::from_der(list)
        .map_err(|error| anyhow!("failed to parse a list of revoked certificates: {error}"))?;
    Ok(list.next_update().map(timestamp))
}

fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_micros(time.timestamp().saturating_mul(1_000_000))
}
