use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::output;
use super::{DataDirArgs, token};
use crate::tokens::{Scope, parse_cluster_name};
use crate::{clock, files};

/// What to do with clusters.
#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make a token for a cluster (or name a client certificate) and print the webhook kubeconfig its API
    /// servers need; what to do with it goes to standard error.
    Add {
        /// The cluster's name, as it will appear in searches and alerts.
        #[arg(value_parser = parse_cluster_name)]
        name: String,
        /// Address under which the API servers reach this server.
        #[arg(long, default_value = "https://watchbell.watchbell.svc:8080", value_name = "URL")]
        server: String,
        /// Certificate authority of this server, in PEM; goes into the kubeconfig.
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        /// Where the API servers find a client certificate to send with, instead of a token; its name must
        /// stand under tls.client_clusters.
        #[arg(long, value_name = "PATH", requires = "client_key")]
        client_cert: Option<String>,
        /// Where they find the private key of --client-cert.
        #[arg(long, value_name = "PATH", requires = "client_cert")]
        client_key: Option<String>,
        #[command(flatten)]
        data: DataDirArgs,
    },
}

const MAX_PEM_BYTES: u64 = 1 << 20;

impl ClusterCommand {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self::Add { name, server, ca_file, client_cert, client_key, data } = self;
        url::Url::parse(&server).with_context(|| format!("--server {server:?} is not an address"))?;
        let authority = ca_file.as_deref().map(read_authority).transpose()?;
        let user = match client_cert.zip(client_key) {
            Some((certificate, key)) => User::Certificate { certificate, key },
            None => {
                let scopes = vec![Scope::Ingest { cluster: name.clone() }];
                let tokens = token::open(&data)?;
                User::Token(tokens.create(&format!("cluster {name}"), scopes, clock::now())?.1)
            }
        };
        output::line(kubeconfig(&name, &server, &user, authority.as_deref()).trim_end())?;
        output::note(&instructions(&name, &user));
        Ok(ExitCode::SUCCESS)
    }
}

/// Certificates in PEM, and nothing that must not leave this machine.
fn read_authority(file: &Path) -> Result<Vec<u8>> {
    let pem = files::read(file, MAX_PEM_BYTES)?;
    check_authority(&pem).with_context(|| format!("--ca-file {} cannot be used", file.display()))?;
    Ok(pem)
}

fn check_authority(pem: &[u8]) -> Result<()> {
    const KEY: &[u8] = b"PRIVATE KEY-----";
    if pem.windows(KEY.len()).any(|text| text == KEY) {
        bail!("it holds a private key, which must not be handed on; name a file with certificates alone");
    }
    let mut is_empty = true;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.context("it is not PEM")?;
        x509_parser::parse_x509_certificate(&certificate)
            .context("it holds a certificate that cannot be read")?;
        is_empty = false;
    }
    if is_empty {
        bail!("it holds no certificate in PEM");
    }
    Ok(())
}

/// What API servers are known by.
enum User {
    Token(String),
    /// Paths on the control-plane nodes.
    Certificate {
        certificate: String,
        key: String,
    },
}

/// Webhook configuration in the form of a kubeconfig, as `--audit-webhook-config-file` wants it.
fn kubeconfig(cluster: &str, server: &str, user: &User, authority: Option<&[u8]>) -> String {
    let user = match user {
        User::Token(token) => format!("token: {token}"),
        User::Certificate { certificate, key } => {
            format!("client-certificate: {certificate:?}\n      client-key: {key:?}")
        }
    };
    let server = server.trim_end_matches('/');
    let authority = authority
        .map_or(String::new(), |pem| format!("      certificate-authority-data: {}\n", STANDARD.encode(pem)));
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n  - name: watchbell\n    cluster:\n      \
         server: {server}/ingest/audit/{cluster}\n{authority}users:\n  - name: {cluster}\n    user:\n      \
         {user}\ncontexts:\n  - name: watchbell\n    context:\n      cluster: watchbell\n      \
         user: {cluster}\ncurrent-context: watchbell\n"
    )
}

fn instructions(cluster: &str, user: &User) -> String {
    let secret = match user {
        User::Token(_) => "the token in it is a secret".to_owned(),
        User::Certificate { key, .. } => format!("as {key}, the key that it names"),
    };
    format!(
        "
Save the above as /etc/kubernetes/watchbell/webhook.yaml on every control-plane node of {cluster} (mode 0600:
{secret}), put deploy/audit-policy.yaml beside it as policy.yaml, and start kube-apiserver with:

  --audit-policy-file=/etc/kubernetes/watchbell/policy.yaml
  --audit-webhook-config-file=/etc/kubernetes/watchbell/webhook.yaml
  --audit-webhook-mode=batch
  --audit-webhook-batch-max-wait=1s
  --audit-webhook-batch-max-size=100
  --audit-webhook-batch-throttle-qps=40
  --audit-webhook-truncate-enabled
  --audit-webhook-truncate-max-event-size=524288

The last two keep a batch below the 64 MiB that are taken at once; an event that the API server truncates
raises an alert of its own.

Then look for its events:  watchbell search 'cluster:{cluster}'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_told() {
        let certificate = User::Certificate { certificate: "/a.crt".to_owned(), key: "/a.key".to_owned() };
        for (user, expect, not) in [
            (User::Token("wb_1_s".to_owned()), "the token in it is a secret", "/a.key"),
            (certificate, "as /a.key, the key that it names", "token"),
        ] {
            let told = instructions("prod", &user);
            assert!(told.contains(expect) && !told.contains(not), "{told}");
        }
    }

    #[test]
    fn an_authority_is_certificates_and_no_key() {
        let made = rcgen::generate_simple_self_signed(vec!["w".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        for good in [certificate.clone(), format!("the first\n{certificate}{certificate}")] {
            assert!(check_authority(good.as_bytes()).is_ok(), "{good}");
        }
        let cut = certificate.replacen("MI", "MJ", 1);
        for (bad, reason) in [
            (key.clone(), "a private key"),
            (format!("{certificate}{key}"), "a private key"),
            (key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "a private key"),
            (String::new(), "no certificate"),
            ("hello".to_owned(), "no certificate"),
            (cut, "cannot be read"),
            (certificate.replace("-----END", "-----"), "not PEM"),
        ] {
            let error = check_authority(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }

    #[test]
    fn the_kubeconfig_is_one_that_kubernetes_reads() {
        let token = User::Token("wb_1_s".to_owned());
        let text = kubeconfig("prod", "https://w:8080/", &token, Some(b"PEM"));
        let documents = watchbell_event::yaml::parse(&text).unwrap();
        let root = &documents[0];
        let first =
            |list: &str, key: &str| root.get(list).unwrap().items().unwrap()[0].get(key).unwrap().clone();
        let cluster = first("clusters", "cluster");
        assert_eq!(cluster.get("server").unwrap().as_str(), Some("https://w:8080/ingest/audit/prod"));
        assert_eq!(cluster.get("certificate-authority-data").unwrap().as_str(), Some("UEVN"));
        assert_eq!(first("users", "user").get("token").unwrap().as_str(), Some("wb_1_s"));
        assert_eq!(first("contexts", "context").get("user").unwrap().as_str(), Some("prod"));

        let certificate = User::Certificate { certificate: "/a b.crt".to_owned(), key: "/a.key".to_owned() };
        let documents =
            watchbell_event::yaml::parse(&kubeconfig("prod", "https://w", &certificate, None)).unwrap();
        let user = documents[0].get("users").unwrap().items().unwrap()[0].get("user").unwrap();
        assert_eq!(user.get("client-certificate").unwrap().as_str(), Some("/a b.crt"));
        assert_eq!(user.get("client-key").unwrap().as_str(), Some("/a.key"));
        assert!(user.get("token").is_none());
    }
}
