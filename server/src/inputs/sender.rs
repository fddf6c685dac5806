//! Who is at the other end of a connection, and whose events these are.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use crate::config::AccessConfig;
use crate::sources::Source;
use crate::tls::{ClientCertificate, Tls};
use crate::tokens::Credential;

/// Who may send, as it was configured.
#[derive(Clone)]
pub(super) struct Access {
    config: AccessConfig,
    tls: Option<Arc<Tls>>,
    /// Only where a certificate can be shown.
    certificate_required: bool,
}

/// The other end of a connection.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) peer: IpAddr,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
}

impl Access {
    /// With `tls` where it is spoken.
    pub(super) fn new(config: &AccessConfig, tls: Option<&Arc<Tls>>) -> Self {
        let certificate_required = config.certificate_required && tls.is_some();
        Self { config: config.clone(), tls: tls.cloned(), certificate_required }
    }

    pub(super) fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// Whether an address may send; without a list, everybody may who can connect.
    pub(super) fn allows(&self, peer: IpAddr) -> bool {
        let allow: &[IpNet] = &self.config.allow;
        allow.is_empty() || allow.iter().any(|network| network.contains(&peer))
    }

    /// What counts datagrams, whoever sent them.
    pub(super) fn datagrams(&self, route: &'static str) -> Source {
        Source {
            cluster: self.config.cluster.clone(),
            route: route.into(),
            credential: Some(Credential::Datagram),
        }
    }

    /// What counts what somebody sends now. Connections live for days, so it is asked for again and again: a
    /// certificate may have expired or been revoked since.
    ///
    /// # Errors
    /// Why nothing more is taken from this sender.
    pub(super) fn source(&self, sender: &Sender, route: &'static str) -> Result<Source> {
        let Some(certificate) = &sender.certificate else {
            if self.certificate_required {
                bail!("the sender has shown no client certificate, and nothing else says who it is");
            }
            let credential = Some(Credential::Address(sender.peer));
            return Ok(Source { cluster: self.config.cluster.clone(), route: route.into(), credential });
        };
        let tls = self.tls.as_ref().context("there is no TLS")?;
        let cluster = one_of(tls.clusters_of(certificate)?, &self.config.cluster)?;
        let credential = Some(Credential::Certificate(certificate.to_string()));
        Ok(Source { cluster, route: route.into(), credential })
    }
}

/// The cluster of a certificate that may stand for several: the configured one if that is among them.
fn one_of(mut clusters: Vec<String>, configured: &str) -> Result<String> {
    if clusters.iter().any(|cluster| cluster == configured) {
        return Ok(configured.to_owned());
    }
    match (clusters.pop(), clusters.is_empty()) {
        (Some(cluster), true) => Ok(cluster),
        _ => bail!(
            "the client certificate stands for several clusters, and the configured one is none of them"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(allow: &[&str], certificate_required: bool) -> Access {
        let allow = allow.iter().map(|network| network.parse().unwrap()).collect();
        let config = AccessConfig { cluster: "prod".to_owned(), allow, certificate_required };
        Access::new(&config, None)
    }

    #[test]
    fn a_certificate_may_stand_for_several_clusters() {
        for (clusters, configured, expect) in [
            (&["a"][..], "", Some("a")),
            (&["a"], "b", Some("a")),
            (&["a", "b"], "b", Some("b")),
            (&["a", "b"], "c", None),
        ] {
            let clusters = clusters.iter().map(|cluster| (*cluster).to_owned()).collect();
            assert_eq!(one_of(clusters, configured).ok().as_deref(), expect, "{configured}");
        }
    }

    #[test]
    fn without_a_certificate_the_address_counts_if_that_is_enough() {
        let sender = Sender { peer: [10, 0, 0, 7].into(), certificate: None };
        let source = access(&[], false).source(&sender, "syslog").unwrap();
        assert_eq!(
            (source.cluster.as_str(), source.credential.unwrap().to_string().as_str()),
            ("prod", "address 10.0.0.7")
        );
        // a listener without TLS, beside one that knows senders by their certificates
        assert!(access(&[], true).source(&sender, "syslog").is_ok());
        let over_tls = Access { certificate_required: true, ..access(&[], true) };
        assert!(over_tls.source(&sender, "syslog").is_err());
        let access = access(&["10.0.0.0/8"], false);
        assert!(access.allows(sender.peer) && !access.allows([11, 0, 0, 7].into()));
    }
}
