//! The certificate of the metrics' TLS, read again when its files change.

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long what was read is used without reading the files again.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate in PEM, followed by those of intermediate authorities.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file has no certificate or key.
    #[error("{path} has no {wanted} in PEM: {error}")]
    NoPem {
        /// The file.
        path: PathBuf,
        /// What it should have.
        wanted: &'static str,
        /// What is wrong.
        error: PemError,
    },
    /// The two do not belong together, or cannot be used for TLS.
    #[error("the certificate in {certificate} cannot be used with the key in {key}: {error}")]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        error: rustls::Error,
    },
}

/// A certificate that is in use.
#[derive(Debug)]
pub(super) struct Certificate {
    files: CertificateFiles,
    settings: Arc<ServerConfig>,
    /// What the files were when `settings` was made of them.
    texts: Texts,
    checked: Instant,
    /// The last error of reading them again.
    failed: Option<String>,
}

impl Certificate {
    /// Reads a certificate at `now`.
    pub(super) fn read(files: CertificateFiles, now: Instant) -> Result<Certificate, CertificateError> {
        let texts = Texts::read(&files)?;
        let settings = texts.settings(&files)?;
        Ok(Certificate { files, settings, texts, checked: now, failed: None })
    }

    /// The settings of a connection that was accepted at `now`. If the files have changed, they are those of the new certificate;
    /// if that cannot be used, the earlier ones stay, and the log says why.
    pub(super) fn settings(&mut self, now: Instant) -> Arc<ServerConfig> {
        if now.saturating_duration_since(self.checked) >= CHECK_INTERVAL {
            self.checked = now;
            match self.renew() {
                Ok(false) => self.failed = None,
                Ok(true) => {
                    self.failed = None;
                    tracing::info!(file = %self.files.certificate.display(), "the certificate of metrics has changed");
                }
                Err(error) => {
                    let error = error.to_string();
                    if self.failed.as_ref() != Some(&error) {
                        tracing::warn!(
                            error,
                            "cannot renew the certificate of metrics; the earlier one stays"
                        );
                    }
                    self.failed = Some(error);
                }
            }
        }
        self.settings.clone()
    }

    /// Returns whether the files have changed.
    fn renew(&mut self) -> Result<bool, CertificateError> {
        let texts = Texts::read(&self.files)?;
        if texts == self.texts {
            return Ok(false);
        }
        self.settings = texts.settings(&self.files)?;
        self.texts = texts;
        Ok(true)
    }
}

/// What the two files hold.
#[derive(PartialEq, Eq)]
struct Texts {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Texts {
    fn read(files: &CertificateFiles) -> Result<Texts, CertificateError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| CertificateError::Unreadable { path: path.to_owned(), error })
        };
        Ok(Texts { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    fn settings(&self, files: &CertificateFiles) -> Result<Arc<ServerConfig>, CertificateError> {
        let no_certificate =
            |error| CertificateError::NoPem { path: files.certificate.clone(), wanted: "certificate", error };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(no_certificate)?;
        if chain.is_empty() {
            return Err(no_certificate(PemError::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| CertificateError::NoPem {
            path: files.key.clone(),
            wanted: "private key",
            error,
        })?;
        let made =
            server_settings().and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
        let mut settings = made.map_err(|error| CertificateError::Unusable {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            error,
        })?;
        settings.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(settings))
    }
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Texts(..)")
    }
}

fn server_settings() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, rustls::Error> {
    ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use std::fs;
    use tokio::io::duplex;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    fn files(name: &str) -> CertificateFiles {
        let directory =
            std::env::temp_dir().join(format!("bridgewarden-certificate-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        CertificateFiles { certificate: directory.join("tls.crt"), key: directory.join("tls.key") }
    }

    /// Writes a new certificate; returns a client that trusts it alone.
    fn renew(files: &CertificateFiles) -> TlsConnector {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["node".to_owned()]).unwrap();
        fs::write(&files.certificate, cert.pem()).unwrap();
        fs::write(&files.key, signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        TlsConnector::from(Arc::new(builder.with_no_client_auth()))
    }

    /// Whether a client that connects at `now` accepts the certificate.
    async fn trusts(client: &TlsConnector, certificate: &mut Certificate, now: Instant) -> bool {
        let (near, far) = duplex(64 << 10);
        let acceptor = TlsAcceptor::from(certificate.settings(now));
        let server = tokio::spawn(async move { acceptor.accept(far).await.is_ok() });
        let name = ServerName::try_from("node").unwrap();
        let connected = client.connect(name, near).await.is_ok();
        let _ = server.await;
        connected
    }

    #[tokio::test]
    async fn renewed_certificate_is_used_within_a_second() {
        let (files, start) = (files("renewed"), Instant::now());
        let client = renew(&files);
        let mut certificate = Certificate::read(files.clone(), start).unwrap();
        assert!(trusts(&client, &mut certificate, start).await);
        let client_of_new = renew(&files);
        assert!(
            !trusts(&client_of_new, &mut certificate, start).await,
            "files are not read for each connection"
        );
        assert!(trusts(&client_of_new, &mut certificate, start + CHECK_INTERVAL).await);
        assert!(!trusts(&client, &mut certificate, start + CHECK_INTERVAL).await);
    }

    #[tokio::test]
    async fn certificate_stays_while_its_files_cannot_be_used() {
        let (files, mut now) = (files("unusable"), Instant::now());
        let client = renew(&files);
        let mut certificate = Certificate::read(files.clone(), now).unwrap();
        let key = fs::read(&files.key).unwrap();
        for broken in ["", "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n"] {
            now += CHECK_INTERVAL;
            fs::write(&files.key, broken).unwrap();
            assert!(trusts(&client, &mut certificate, now).await);
        }
        fs::remove_file(&files.key).unwrap();
        now += CHECK_INTERVAL;
        assert!(trusts(&client, &mut certificate, now).await);
        // The certificate is renewed first, and its key a moment later.
        let client_of_new = renew(&files);
        let new_key = fs::read(&files.key).unwrap();
        fs::write(&files.key, key).unwrap();
        now += CHECK_INTERVAL;
        assert!(trusts(&client, &mut certificate, now).await);
        fs::write(&files.key, new_key).unwrap();
        now += CHECK_INTERVAL;
        assert!(trusts(&client_of_new, &mut certificate, now).await);
    }
}
