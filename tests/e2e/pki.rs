//! Certificates for tests: an authority that signs servers and clients and revokes them.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An authority with a directory for its files: `ca.crt`, `ca.crl`, `tls.crt`, `tls.key`.
pub(crate) struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    own: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap().pem();
        let dir = tempfile::tempdir().unwrap();
        let authority = Self { dir, issuer: Issuer::new(params, key), own };
        std::fs::write(authority.path("ca.crt"), &authority.own).unwrap();
        let (certificate, key) = authority.server();
        std::fs::write(authority.path("tls.crt"), certificate).unwrap();
        std::fs::write(authority.path("tls.key"), key).unwrap();
        authority.revoke(&[]);
        authority
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate for a server on loopback, and its key.
    pub(crate) fn server(&self) -> (String, String) {
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A client certificate and its key in one PEM file.
    pub(crate) fn client(&self, serial: u64, common_name: &str, uri: Option<&str>) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = uri.into_iter().map(|uri| SanType::URI(uri.try_into().unwrap())).collect();
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer).unwrap().pem() + &key.serialize_pem()
    }

    /// Writes the list of revoked certificates.
    pub(crate) fn revoke(&self, serials: &[u64]) {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap().pem().unwrap();
        std::fs::write(self.path("ca.crl"), list).unwrap();
    }

    /// The configuration that uses the files; `more` goes into its `tls` section.
    pub(crate) fn config(&self, more: &str) -> String {
        let file = |name| self.path(name).display().to_string();
        let [cert, key, ca, crl] = ["tls.crt", "tls.key", "ca.crt", "ca.crl"].map(file);
        format!(
            "tls:\n  cert_file: {cert}\n  key_file: {key}\n  client_ca_file: {ca}\n  client_crl_files: [{crl}]\n  \
             reload_interval: 100ms\n{more}"
        )
    }

    /// A connection over TLS to a port of loopback, likewise.
    pub(crate) async fn connect(&self, port: u16, identity: Option<&str>) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.own.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match identity {
            Some(pem) => {
                let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// A client that trusts this authority alone, and shows a certificate if it is given one.
    pub(crate) fn http(&self, identity: Option<&str>) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(self.own.as_bytes()).unwrap();
        let builder = reqwest::Client::builder().tls_certs_only([root]);
        let builder = match identity {
            Some(pem) => builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap()),
            None => builder,
        };
        builder.timeout(std::time::Duration::from_secs(30)).build().unwrap()
    }
}
