//! Metrics over TLS, at an address of their own.

use super::listening::{Retry, listen, unless_stopped, until_stopped};
use super::settings::{MetricsEndpoint, Scrapers};
use crate::observe::{Health, Metrics, ScraperReview, TlsListener, serve_metrics};
use crate::source::{Liveness, connect};
use std::time::Instant;
use tokio::sync::watch;

/// The readiness check of whether they are served.
pub(super) const CHECK: &str = "metrics";

/// Serves metrics until `stopped` is true, as soon as that is possible.
pub(super) async fn serve(
    endpoint: &MetricsEndpoint,
    metrics: Metrics,
    health: &Health,
    stopped: &watch::Receiver<bool>,
) {
    let Some((listener, review)) = unless_stopped(open(endpoint, health), stopped).await else { return };
    serve_metrics(listener, metrics, health.clone(), review, until_stopped(stopped.clone())).await;
}

async fn open(endpoint: &MetricsEndpoint, health: &Health) -> (TlsListener, Option<ScraperReview>) {
    let failed = |error: &str, is_new: bool| {
        if is_new {
            tracing::error!(
                problem = error,
                "cannot serve metrics over TLS; policies are enforced all the same"
            );
        }
        health.set_check(CHECK, Err(error.to_owned()));
    };
    let (opened, had_failed) = listen(Retry::ADDRESS, || try_to_open(endpoint), failed).await;
    if had_failed {
        tracing::info!(address = %endpoint.address, "metrics are now served over TLS");
    }
    health.set_check(CHECK, Ok(()));
    opened
}

async fn try_to_open(endpoint: &MetricsEndpoint) -> Result<(TlsListener, Option<ScraperReview>), String> {
    let review = match &endpoint.scrapers {
        Scrapers::All => None,
        Scrapers::Reviewed { kubeconfig } => {
            let client = connect(kubeconfig.as_deref(), Liveness::new(Instant::now())).await;
            Some(ScraperReview::new(client.map_err(|error| error.to_string())?))
        }
    };
    let listener = TlsListener::bind(endpoint.address, endpoint.certificate.clone()).await;
    Ok((listener.map_err(|error| error.to_string())?, review))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::CertificateFiles;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use std::fs;

    #[tokio::test(start_paused = true)]
    async fn certificate_that_is_missing_is_waited_for_and_fails_readiness() {
        let directory = std::env::temp_dir().join(format!("bridgewarden-metrics-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory of our own");
        let certificate =
            CertificateFiles { certificate: directory.join("tls.crt"), key: directory.join("tls.key") };
        let endpoint = MetricsEndpoint {
            address: "127.0.0.1:0".parse().expect("an address"),
            certificate: certificate.clone(),
            scrapers: Scrapers::All,
        };
        let health = Health::new(&[CHECK]);
        let waiting = tokio::spawn({
            let health = health.clone();
            async move { open(&endpoint, &health).await.0.local_addr() }
        });
        while !health.ready().is_err_and(|failed| failed[0].1.contains("tls.crt")) {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["a".to_owned()]).expect("a certificate");
        fs::write(&certificate.key, signing_key.serialize_pem()).expect("a file of our own");
        fs::write(&certificate.certificate, cert.pem()).expect("a file of our own");
        assert!(waiting.await.expect("it does not panic").is_ok());
        assert_eq!(health.ready(), Ok(()));
    }
}
