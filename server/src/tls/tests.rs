use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

use super::*;

/// An authority, and a directory with its files, a server certificate, and a configuration that names them.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let authority = Self { dir: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key) };
        authority.write("ca.crt", &own.pem());
        authority.renew(2099);
        authority.revoke(&[]);
        authority.map("prod-api: prod");
        authority
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A server certificate that expires in this year, with its key.
    fn renew(&self, year: i32) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        self.write("tls.crt", &params.signed_by(&key, &self.issuer).unwrap().pem());
        self.write("tls.key", &key.serialize_pem());
    }

    fn revoke(&self, serials: &[u64]) {
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
        self.write("ca.crl", &params.signed_by(&self.issuer).unwrap().pem().unwrap());
    }

    /// Writes the configuration with these clusters of certificates.
    fn map(&self, clusters: &str) {
        let file = |name| self.path(name).display().to_string();
        let [cert, key, ca, crl] = ["tls.crt", "tls.key", "ca.crt", "ca.crl"].map(file);
        self.write(
            "w.yaml",
            &format!(
                "tls:\n  cert_file: {cert}\n  key_file: {key}\n  client_ca_file: {ca}\n  \
                 client_crl_files: [{crl}]\n  client_clusters: {{{clusters}}}\n"
            ),
        );
    }

    fn client(&self, serial: u64, names: &[SanType], year: i32) -> ClientCertificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.distinguished_name.push(DnType::CommonName, "prod-api");
        params.subject_alt_names = names.to_vec();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap();
        ClientCertificate::new(vec![certificate.der().clone()]).unwrap()
    }

    fn open(&self) -> Tls {
        let config = Config::load(Some(&self.path("w.yaml"))).unwrap();
        Tls::open(Some(self.path("w.yaml")), config.tls.unwrap()).unwrap()
    }
}

fn year(tls: &Tls) -> String {
    tls.in_force.load().expires_at.to_string()[..4].to_owned()
}

fn problem(tls: &Tls) -> String {
    let reloads = tls.take_reloads();
    assert_eq!(reloads.len(), 1, "{reloads:?}");
    reloads[0].problem.clone().unwrap_or_default()
}

#[test]
fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
    let authority = Authority::new();
    let tls = authority.open();
    tls.reload();
    assert!(tls.take_reloads().is_empty());

    let old_key = std::fs::read(authority.path("tls.key")).unwrap();
    authority.renew(2098);
    let new_key = std::fs::read(authority.path("tls.key")).unwrap();
    std::fs::write(authority.path("tls.key"), old_key).unwrap();
    // Between the two files being written, and looked at twice.
    tls.reload();
    tls.reload();
    let told = problem(&tls);
    assert!(told.contains("tls.crt") && told.contains("tls.key"), "{told}");
    assert_eq!(year(&tls), "2099");
    std::fs::write(authority.path("tls.key"), new_key).unwrap();
    tls.reload();
    assert_eq!((problem(&tls), year(&tls)), (String::new(), "2098".to_owned()));

    for (file, text, reason) in [
        ("tls.crt", "", "holds no certificate"),
        ("ca.crl", "nothing", "ca.crl holds no list"),
        ("w.yaml", "tls: {cert_file: [", "w.yaml:"),
        ("w.yaml", "", "cannot be switched off"),
    ] {
        let good = std::fs::read(authority.path(file)).unwrap();
        authority.write(file, text);
        tls.reload();
        let told = problem(&tls);
        assert!(told.contains(reason), "{file}: {told}");
        assert_eq!(year(&tls), "2098");
        std::fs::write(authority.path(file), good).unwrap();
        tls.reload();
        assert!(tls.take_reloads().is_empty());
    }
    std::fs::remove_file(authority.path("tls.crt")).unwrap();
    tls.reload();
    assert!(problem(&tls).contains("tls.crt"));
}

#[test]
fn a_certificate_that_has_expired_replaces_none() {
    let authority = Authority::new();
    let tls = authority.open();
    authority.renew(2020);
    tls.reload();
    assert!(problem(&tls).contains("expired at 2020-01-01"));
    assert_eq!(year(&tls), "2099");
}

#[test]
fn a_mistake_elsewhere_in_the_configuration_keeps_no_certificate_out() {
    let authority = Authority::new();
    let tls = authority.open();
    authority.write("w.yaml", "lisen: 1\n");
    authority.renew(2098);
    tls.reload();
    assert_eq!(year(&tls), "2098");
    assert_eq!(tls.take_reloads().len(), 2);
}

#[test]
fn a_client_sends_for_the_clusters_its_names_stand_for() {
    let authority = Authority::new();
    authority
        .map("prod-api: prod, 'API.example.org': edge, 'spiffe://example.org/api': mesh, other: nothing");
    let tls = authority.open();
    let dns = SanType::DnsName("api.example.org".try_into().unwrap());
    let uri = SanType::URI("spiffe://example.org/api".try_into().unwrap());
    let foreign = SanType::URI("spiffe://example.org/API".try_into().unwrap());
    for (names, expect) in [
        (&[][..], &["prod"][..]),
        (std::slice::from_ref(&dns), &["edge", "prod"]),
        (&[foreign, dns.clone(), uri], &["edge", "mesh", "prod"]),
    ] {
        let client = authority.client(7, names, 2099);
        assert_eq!(tls.clusters_of(&client).unwrap(), expect, "{client}");
    }

    let client = authority.client(7, &[], 2099);
    authority.map("someone: prod");
    tls.reload();
    let told = tls.clusters_of(&client).unwrap_err().to_string();
    assert!(told.contains("CN \"prod-api\"") && told.contains("tls.client_clusters"), "{told}");
}

#[test]
fn a_client_that_is_connected_already_is_refused_once_it_is_revoked_or_its_authority_is_gone() {
    let authority = Authority::new();
    let tls = authority.open();
    let (kept, revoked) = (authority.client(7, &[], 2099), authority.client(8, &[], 2099));
    assert!(tls.clusters_of(&kept).is_ok() && tls.clusters_of(&revoked).is_ok());
    authority.revoke(&[8]);
    tls.reload();
    assert!(tls.clusters_of(&kept).is_ok());
    let told = tls.clusters_of(&revoked).unwrap_err().to_string();
    assert!(told.contains("is not accepted") && told.to_lowercase().contains("revoked"), "{told}");

    let other = Authority::new();
    std::fs::copy(other.path("ca.crt"), authority.path("ca.crt")).unwrap();
    std::fs::copy(other.path("ca.crl"), authority.path("ca.crl")).unwrap();
    tls.reload();
    assert!(tls.clusters_of(&kept).is_err());
    assert!(tls.clusters_of(&other.client(7, &[], 2099)).is_ok());
    let expired = other.client(9, &[], 2021);
    assert!(tls.clusters_of(&expired).unwrap_err().to_string().contains("is not accepted"));
}
