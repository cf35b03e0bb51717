//! A certificate authority, and what a client needs to trust it.

use bridgewarden::observe::CertificateFiles;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// The name in the server's certificates.
pub(crate) const SERVER: &str = "metrics.test";

/// An authority that signs certificates of [`SERVER`].
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority { issuer: CertifiedIssuer::self_signed(authority, key).expect("an authority") }
    }

    /// Writes a new certificate and its key to the files; returns the certificate.
    pub(crate) fn write(&self, files: &CertificateFiles) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new([SERVER.to_owned()]).expect("a name");
        let certificate = server.signed_by(&key, &self.issuer).expect("a certificate");
        fs::write(&files.certificate, certificate.pem()).expect("the file can be written");
        fs::write(&files.key, key.serialize_pem()).expect("the file can be written");
        certificate.der().clone()
    }

    /// A client that trusts this authority and no other.
    pub(crate) fn client(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("it is an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("the provider has them");
        TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// The name that clients expect.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER).expect("it is a name")
}

/// A new directory of a test.
pub(crate) fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("metrics-tls-{name}"));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("the directory can be made");
    directory
}

/// The files of a certificate in a directory.
pub(crate) fn files(directory: &Path) -> CertificateFiles {
    CertificateFiles { certificate: directory.join("tls.crt"), key: directory.join("tls.key") }
}
