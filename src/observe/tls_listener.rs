//! Accepts connections over TLS.

use super::certificate::{Certificate, CertificateError, CertificateFiles};
use super::connections::Accept;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A listener whose connections are encrypted.
#[derive(Debug)]
pub struct TlsListener {
    listener: TcpListener,
    certificate: Certificate,
}

/// Why nothing can be served over TLS.
#[derive(Debug, Error)]
pub enum TlsListenError {
    /// The certificate cannot be used.
    #[error("{0}; see --metrics-cert and --metrics-key")]
    Certificate(#[from] CertificateError),
    /// The address is in use, or cannot be used.
    #[error("cannot listen on {address}: {error}; choose another with --metrics-addr")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
}

impl TlsListener {
    /// Reads the certificate, and listens.
    ///
    /// # Errors
    /// The certificate or the address cannot be used.
    pub async fn bind(address: SocketAddr, files: CertificateFiles) -> Result<TlsListener, TlsListenError> {
        let certificate = Certificate::read(files, Instant::now())?;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| TlsListenError::Address { address, error })?;
        Ok(TlsListener { listener, certificate })
    }

    /// The address that it listens at.
    ///
    /// # Errors
    /// The system does not say it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Accept for TlsListener {
    type Stream = TlsStream<TcpStream>;
    type Opening = tokio_rustls::Accept<TcpStream>;

    async fn accept(&mut self) -> io::Result<Option<Self::Opening>> {
        let (stream, _) = self.listener.accept().await?;
        let settings = self.certificate.settings(Instant::now());
        Ok(Some(TlsAcceptor::from(settings).accept(stream)))
    }
}
