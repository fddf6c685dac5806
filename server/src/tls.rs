//! HTTPS as it is in force: the certificate with its key, and which client certificates stand for which
//! clusters.
//!
//! The files and the `tls` section of the configuration are looked at every few seconds. A change that can be
//! used is in force for new connections at once, and every client certificate that is in use is verified
//! again; a change that cannot be used is reported, and what was in force stays.

mod certificate;
mod clients;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use watchbell_event::Timestamp;

use self::clients::{ClientFiles, Clients};
use crate::config::{Config, TlsConfig};
use crate::{clock, files};

pub(crate) use self::certificate::ClientCertificate;

const MAX_PEM_BYTES: u64 = 1 << 20;
/// Reloads that nobody asked about are forgotten beyond this.
const MAX_REMEMBERED_RELOADS: usize = 16;
const MIN_RELOAD_INTERVAL: Duration = Duration::from_millis(100);

/// The certificate and the clients in force.
pub(crate) struct Tls {
    config_file: Option<PathBuf>,
    in_force: ArcSwap<InForce>,
    state: Mutex<State>,
}

struct InForce {
    acceptor: TlsAcceptor,
    silent_acceptor: TlsAcceptor,
    clients: Option<Clients>,
    expires_at: Timestamp,
}

impl InForce {
    /// Sets the gauges that say when what is in force runs out.
    fn publish_expiry(&self) {
        publish_expiry("server", self.expires_at);
        self.clients.iter().for_each(Clients::publish_expiry);
    }
}

struct State {
    config: TlsConfig,
    fingerprint: blake3::Hash,
    problem: Option<String>,
    reloads: Vec<TlsReload>,
}

/// One change of certificate, key or clients that was taken or refused.
#[derive(Clone, Debug)]
pub(crate) struct TlsReload {
    /// When the certificate in force afterwards expires.
    pub(crate) expires_at: Timestamp,
    /// Why the change was refused, if it was.
    pub(crate) problem: Option<String>,
}

impl Tls {
    /// Loads everything for the first time. `config_file` is where the section is read again.
    ///
    /// # Errors
    /// Names the file that cannot be used.
    pub(crate) fn open(config_file: Option<PathBuf>, config: TlsConfig) -> Result<Self> {
        let loaded = Files::read(&config)?;
        let fingerprint = loaded.fingerprint(&config);
        let in_force = loaded.load(&config)?;
        in_force.publish_expiry();
        if in_force.expires_at <= clock::now() {
            let (file, expired_at) = (config.cert_file.display(), in_force.expires_at);
            tracing::error!(%file, %expired_at, "the certificate has expired; clients will refuse it");
        }
        let state = State { config, fingerprint, problem: None, reloads: Vec::new() };
        Ok(Self { config_file, in_force: ArcSwap::from_pointee(in_force), state: Mutex::new(state) })
    }

    /// What new connections are accepted with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.in_force.load().acceptor.clone()
    }

    /// The same for protocols of which a sender may never read: nothing is written that the protocol does not ask for,
    /// such as tickets for later sessions, behind which it would not see the end of the connection.
    pub(crate) fn silent_acceptor(&self) -> TlsAcceptor {
        self.in_force.load().silent_acceptor.clone()
    }

    /// The clusters whose events the holder of this certificate may send.
    ///
    /// # Errors
    /// Why there are none, for people.
    pub(crate) fn clusters_of(&self, certificate: &ClientCertificate) -> Result<Vec<String>> {
        match &self.in_force.load().clients {
            Some(clients) => clients.clusters_of(certificate, clock::now()),
            None => bail!("client certificates are not accepted (tls.client_auth)"),
        }
    }

    /// Changes since the last call.
    pub(crate) fn take_reloads(&self) -> Vec<TlsReload> {
        std::mem::take(&mut self.lock().reloads)
    }

    /// How long to wait before [`Self::reload`].
    pub(crate) fn reload_interval(&self) -> Duration {
        self.lock().config.reload_interval.max(MIN_RELOAD_INTERVAL)
    }

    /// Looks at the configuration and the files, and takes what changed. Blocks on the disk.
    pub(crate) fn reload(&self) {
        let mut state = self.lock();
        // A mistake elsewhere in the configuration must not keep a new certificate out.
        let (config, mistake) = match self.read_config() {
            Ok(config) => (config.unwrap_or_else(|| state.config.clone()), None),
            Err(error) => (state.config.clone(), Some(format!("{error:#}"))),
        };
        let problem = self.take_files(&mut state, config).err().map(|error| format!("{error:#}"));
        let problem = problem.or(mistake);
        if problem != state.problem {
            if let Some(problem) = &problem {
                tracing::error!(problem, "failed to reload tls; the certificate and clients in force stay");
                self.note(&mut state, Some(problem.clone()));
            }
            state.problem = problem;
        }
    }

    /// The section as it is now; nothing if there is no file to read it from.
    fn read_config(&self) -> Result<Option<TlsConfig>> {
        let Some(file) = &self.config_file else { return Ok(None) };
        let config = Config::load(Some(file))?;
        config.tls.map(Some).context("tls cannot be switched off while the server runs; restart it")
    }

    fn take_files(&self, state: &mut State, config: TlsConfig) -> Result<()> {
        let found = Files::read(&config)?;
        let fingerprint = found.fingerprint(&config);
        if fingerprint == state.fingerprint {
            return Ok(());
        }
        let in_force = found.load(&config)?;
        if in_force.expires_at <= clock::now() {
            bail!("the certificate in {} expired at {}", config.cert_file.display(), in_force.expires_at);
        }
        tracing::info!(
            file = %config.cert_file.display(), expires_at = %in_force.expires_at, "took changed tls files"
        );
        in_force.publish_expiry();
        self.in_force.store(Arc::new(in_force));
        state.fingerprint = fingerprint;
        state.config = config;
        self.note(state, None);
        Ok(())
    }

    fn note(&self, state: &mut State, problem: Option<String>) {
        let outcome = if problem.is_none() { "taken" } else { "refused" };
        metrics::counter!("watchbell_tls_reloads_total", "outcome" => outcome).increment(1);
        state.reloads.push(TlsReload { expires_at: self.in_force.load().expires_at, problem });
        let surplus = state.reloads.len().saturating_sub(MAX_REMEMBERED_RELOADS);
        state.reloads.drain(..surplus);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a handshake failed because of the client's certificate. Anybody can break a handshake off, but a client whose
/// certificate was refused wants to send something.
pub(crate) fn refused_certificate(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

/// The files' bytes.
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    clients: Option<ClientFiles>,
}

impl Files {
    fn read(config: &TlsConfig) -> Result<Self> {
        Ok(Self {
            certificate: files::read(&config.cert_file, MAX_PEM_BYTES)?,
            key: files::read(&config.key_file, MAX_PEM_BYTES)?,
            clients: config.clients.as_ref().map(ClientFiles::read).transpose()?,
        })
    }

    /// Changes when any file, or the section itself, does.
    fn fingerprint(&self, config: &TlsConfig) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let section = format!("{config:?}");
        let own = [section.as_bytes(), &self.certificate, &self.key];
        for part in own.into_iter().chain(self.clients.iter().flat_map(ClientFiles::parts)) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize()
    }

    fn load(&self, config: &TlsConfig) -> Result<InForce> {
        let chain = certificates(&self.certificate, &config.cert_file)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .with_context(|| format!("failed to read a private key from {}", config.key_file.display()))?;
        let expires_at = earliest_expiry(&chain, &config.cert_file)?;
        let clients = match (&config.clients, &self.clients) {
            (Some(config), Some(files)) => Some(Clients::load(config, files)?),
            _ => None,
        };
        let builder = ServerConfig::builder();
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
            None => builder.with_no_client_auth(),
        };
        let (cert_file, key_file) = (config.cert_file.display(), config.key_file.display());
        let mut server = builder
            .with_single_cert(chain, key)
            .with_context(|| format!("failed to use {cert_file} with the key {key_file}"))?;
        let mut silent = server.clone();
        silent.send_tls13_tickets = 0;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let [acceptor, silent_acceptor] = [server, silent].map(|config| TlsAcceptor::from(Arc::new(config)));
        Ok(InForce { acceptor, silent_acceptor, clients, expires_at })
    }
}

/// All certificates of a PEM file, of which there must be one at least.
fn certificates(pem: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let read = read.with_context(|| format!("failed to read certificates from {}", file.display()))?;
    if read.is_empty() {
        bail!("{} holds no certificate in PEM", file.display());
    }
    Ok(read)
}

/// When the first of these certificates expires.
fn earliest_expiry(certificates: &[CertificateDer<'_>], file: &Path) -> Result<Timestamp> {
    let expiries = certificates.iter().map(certificate::expiry).collect::<Result<Vec<_>>>();
    let expiries = expiries.with_context(|| format!("failed to read {}", file.display()))?;
    expiries.into_iter().min().with_context(|| format!("{} holds no certificate", file.display()))
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
fn publish_expiry(of: &'static str, time: Timestamp) {
    let seconds = time.as_micros() / 1_000_000;
    metrics::gauge!("watchbell_tls_expiry_timestamp_seconds", "of" => of).set(seconds as f64);
}

#[cfg(test)]
mod tests;
