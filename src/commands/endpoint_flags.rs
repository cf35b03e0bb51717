//! The flags of serving metrics over TLS.

use super::run::Switch;
use crate::daemon::{MetricsEndpoint, ObjectSource, Scrapers};
use crate::observe::CertificateFiles;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::ffi::OsString;
use std::net::SocketAddr;

/// Where metrics are served over TLS, and to whom.
#[derive(Clone, Debug, Args)]
pub(super) struct EndpointFlags {
    /// Serve /metrics over TLS at this address, and no longer at --http-addr. Needs --metrics-cert and --metrics-key. Empty to serve
    /// it at --http-addr
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "")]
    metrics_addr: String,
    /// The certificate of --metrics-addr in PEM, with those of intermediate authorities. It is read again when it changes
    #[arg(long, value_name = "FILE", default_value = "")]
    metrics_cert: OsString,
    /// The private key of --metrics-cert in PEM
    #[arg(long, value_name = "FILE", default_value = "")]
    metrics_key: OsString,
    /// Serve --metrics-addr only to clients with a bearer token that the API server knows (TokenReview), and whose user may get
    /// /metrics (SubjectAccessReview)
    #[arg(long, value_enum, default_value_t)]
    metrics_auth: Switch,
}

impl EndpointFlags {
    /// Where metrics are served, if not at `http`.
    pub(super) fn endpoint(
        &self,
        http: SocketAddr,
        source: &ObjectSource,
    ) -> Result<Option<MetricsEndpoint>> {
        let files = [("--metrics-cert", &self.metrics_cert), ("--metrics-key", &self.metrics_key)];
        if self.metrics_addr.is_empty() {
            if let Some((flag, _)) = files.iter().find(|(_, file)| !file.is_empty()) {
                bail!("{flag} needs --metrics-addr, the address at which metrics are served over TLS");
            }
            return Ok(None);
        }
        let address: SocketAddr = self.metrics_addr.parse().with_context(|| {
            format!(
                "--metrics-addr: {} is not an address and a port, such as 0.0.0.0:20246",
                self.metrics_addr
            )
        })?;
        if let Some((flag, _)) = files.iter().find(|(_, file)| file.is_empty()) {
            bail!("--metrics-addr needs {flag}: metrics are served over TLS there");
        }
        if address == http {
            bail!("--metrics-addr and --http-addr are both {address}; choose another port for one of them");
        }
        let scrapers = match (self.metrics_auth, source) {
            (Switch::Off, _) => Scrapers::All,
            (Switch::On, ObjectSource::ApiServer { kubeconfig, .. }) => {
                Scrapers::Reviewed { kubeconfig: kubeconfig.clone() }
            }
            (Switch::On, ObjectSource::Manifests { .. }) => {
                bail!(
                    "with --manifests there is no API server that knows the clients of --metrics-addr; use --metrics-auth=off"
                )
            }
        };
        let (certificate, key) = (self.metrics_cert.clone().into(), self.metrics_key.clone().into());
        Ok(Some(MetricsEndpoint { address, certificate: CertificateFiles { certificate, key }, scrapers }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::WatchList;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: EndpointFlags,
    }

    const FILES: [&str; 2] = ["--metrics-cert=/tls.crt", "--metrics-key=/tls.key"];

    fn api_server() -> ObjectSource {
        ObjectSource::ApiServer { kubeconfig: Some("/k".into()), list: WatchList::Auto, events: true }
    }

    fn endpoint(words: &[&str], source: &ObjectSource) -> Result<Option<MetricsEndpoint>, String> {
        let line = Line::try_parse_from(["run"].iter().chain(words)).map_err(|error| error.to_string())?;
        let http = "127.0.0.1:20245".parse().expect("an address");
        line.flags.endpoint(http, source).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn without_an_address_of_their_own_metrics_are_with_the_health_pages() {
        assert_eq!(endpoint(&[], &api_server()), Ok(None));
        assert_eq!(
            endpoint(&["--metrics-addr=", "--metrics-cert=", "--metrics-key="], &api_server()),
            Ok(None)
        );
    }

    #[test]
    fn at_an_address_of_their_own_clients_are_reviewed_unless_that_is_off() {
        let given = [&FILES[..], &["--metrics-addr=0.0.0.0:20246"]].concat();
        let wanted = MetricsEndpoint {
            address: "0.0.0.0:20246".parse().expect("an address"),
            certificate: CertificateFiles { certificate: "/tls.crt".into(), key: "/tls.key".into() },
            scrapers: Scrapers::Reviewed { kubeconfig: Some("/k".into()) },
        };
        assert_eq!(endpoint(&given, &api_server()), Ok(Some(wanted.clone())));
        let open = [&given[..], &["--metrics-auth=off"]].concat();
        let wanted = MetricsEndpoint { scrapers: Scrapers::All, ..wanted };
        let manifests = ObjectSource::Manifests { directory: "/m".into() };
        for source in [api_server(), manifests.clone()] {
            assert_eq!(endpoint(&open, &source), Ok(Some(wanted.clone())));
        }
        let refused = endpoint(&given, &manifests).expect_err("clients cannot be reviewed");
        assert!(refused.contains("--metrics-auth=off"), "{refused}");
    }

    #[test]
    fn flags_that_do_not_fit_together_are_refused_with_what_is_missing() {
        for (words, missing) in [
            (&["--metrics-addr=0.0.0.0:1"][..], "--metrics-addr needs --metrics-cert"),
            (&["--metrics-addr=0.0.0.0:1", FILES[0]], "--metrics-addr needs --metrics-key"),
            (&["--metrics-addr=0.0.0.0:1", FILES[1]], "--metrics-addr needs --metrics-cert"),
            (&[FILES[0]], "--metrics-cert needs --metrics-addr"),
            (&[FILES[1]], "--metrics-key needs --metrics-addr"),
            (&["--metrics-addr=20246", FILES[0], FILES[1]], "20246 is not an address and a port"),
            (&["--metrics-addr=127.0.0.1:20245", FILES[0], FILES[1]], "choose another port"),
        ] {
            let refused = endpoint(words, &api_server()).expect_err("it is incomplete");
            assert!(refused.contains(missing), "{words:?}: {refused}");
        }
    }
}
