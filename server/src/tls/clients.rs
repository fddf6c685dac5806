//! Client certificates: who signs them, which of them are revoked, and for which cluster each may send.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use watchbell_event::Timestamp;

use super::{ClientCertificate, MAX_PEM_BYTES, certificate, certificates, earliest_expiry, publish_expiry};
use crate::config::ClientsConfig;
use crate::files;

/// Lists of revoked certificates may be long.
const MAX_CRL_BYTES: u64 = 64 << 20;
/// Connections live for days; what was verified at their start is verified again this often.
const VERIFY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Numbers the clients in force, so that a certificate knows which of them it was verified for.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Who may send with a certificate.
pub(super) struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    clusters: BTreeMap<String, String>,
    generation: u64,
    /// When the first authority expires.
    authorities_until: Timestamp,
    /// When the first list of revoked certificates should have a successor.
    revoked_until: Option<Timestamp>,
}

/// The files' bytes.
pub(super) struct ClientFiles {
    authorities: Vec<u8>,
    revoked: Vec<Vec<u8>>,
}

impl ClientFiles {
    pub(super) fn read(config: &ClientsConfig) -> Result<Self> {
        let revoked = config.crl_files.iter().map(|file| files::read(file, MAX_CRL_BYTES));
        Ok(Self {
            authorities: files::read(&config.ca_file, MAX_PEM_BYTES)?,
            revoked: revoked.collect::<Result<_>>()?,
        })
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.authorities.as_slice()).chain(self.revoked.iter().map(Vec::as_slice))
    }
}

impl Clients {
    pub(super) fn load(config: &ClientsConfig, files: &ClientFiles) -> Result<Self> {
        let authorities = certificates(&files.authorities, &config.ca_file)?;
        let authorities_until = earliest_expiry(&authorities, &config.ca_file)?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            let added = roots.add(authority);
            added.with_context(|| format!("failed to use an authority in {}", config.ca_file.display()))?;
        }
        let (revoked, revoked_until) = revocation_lists(config, files)?;
        let mut builder = WebPkiClientVerifier::builder(Arc::new(roots));
        if !revoked.is_empty() {
            builder = builder.with_crls(revoked).only_check_end_entity_revocation();
        }
        if !config.required {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build();
        let verifier = verifier.with_context(|| format!("failed to use {}", config.ca_file.display()))?;
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        let clusters = config.clusters.clone();
        Ok(Self { verifier, clusters, generation, authorities_until, revoked_until })
    }

    pub(super) fn publish_expiry(&self) {
        publish_expiry("client_ca", self.authorities_until);
        if let Some(until) = self.revoked_until {
            publish_expiry("client_crl", until);
        }
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// The clusters that the certificate's names are mapped to.
    ///
    /// # Errors
    /// If there are none, or the certificate has expired, was revoked, or its authority is no longer trusted.
    pub(super) fn clusters_of(&self, certificate: &ClientCertificate, now: Timestamp) -> Result<Vec<String>> {
        self.verify(certificate, now)?;
        let mapped = self.clusters.iter();
        let mapped = mapped.filter(|(name, _)| certificate.names.iter().any(|known| known.is(name)));
        let mut clusters: Vec<String> = mapped.map(|(_, cluster)| cluster.clone()).collect();
        clusters.sort();
        clusters.dedup();
        if clusters.is_empty() {
            bail!("the client certificate ({certificate}) stands for no cluster (tls.client_clusters)");
        }
        Ok(clusters)
    }

    /// Verifies again what was verified at the start of the connection, unless that was just now.
    fn verify(&self, certificate: &ClientCertificate, now: Timestamp) -> Result<()> {
        let mut verified = certificate.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |(generation, at): (u64, Instant)| {
            generation == self.generation && at.elapsed() < VERIFY_AGAIN_AFTER
        };
        if verified.is_some_and(fresh) {
            return Ok(());
        }
        let Some((own, intermediates)) = certificate.chain.split_first() else {
            bail!("there is no client certificate");
        };
        let since_epoch = u64::try_from(now.as_micros()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_micros(since_epoch));
        self.verifier
            .verify_client_cert(own, intermediates, now)
            .map_err(|error| anyhow!("the client certificate ({certificate}) is not accepted: {error}"))?;
        *verified = Some((self.generation, Instant::now()));
        Ok(())
    }
}

/// All lists, and when the first of them should have a successor.
fn revocation_lists(
    config: &ClientsConfig,
    files: &ClientFiles,
) -> Result<(Vec<CertificateRevocationListDer<'static>>, Option<Timestamp>)> {
    let mut lists = Vec::new();
    let mut due: Option<Timestamp> = None;
    for (file, bytes) in config.crl_files.iter().zip(&files.revoked) {
        for list in read_lists(bytes, file)? {
            let next = certificate::next_update(&list)
                .with_context(|| format!("failed to read {}", file.display()))?;
            due = due.into_iter().chain(next).min();
            lists.push(list);
        }
    }
    Ok((lists, due))
}

/// The lists of a file, which is PEM, or DER as authorities publish it.
fn read_lists(bytes: &[u8], file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    if bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(bytes.to_vec())]);
    }
    let read = CertificateRevocationListDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let read = read.with_context(|| format!("failed to read {}", file.display()))?;
    if read.is_empty() {
        bail!("{} holds no list of revoked certificates", file.display());
    }
    Ok(read)
}
