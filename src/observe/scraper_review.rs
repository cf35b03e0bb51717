//! Who may read the metrics: clients whose token the API server knows, and who may get `/metrics` by its RBAC.

use super::scraper_decisions::{ScraperDecision, ScraperDecisions};
use crate::causes::with_causes;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// How many tokens are reviewed at once; others wait.
const AT_ONCE: usize = 4;
/// How long a client waits for the review of its token.
const WAIT: Duration = Duration::from_secs(5);

/// Asks the API server whether clients may read the metrics, and remembers its answers for a while. Clones share them.
#[derive(Clone)]
pub struct ScraperReview {
    client: Client,
    decisions: Arc<Mutex<ScraperDecisions>>,
    asking: Arc<Semaphore>,
    /// The last error of asking.
    failed: Arc<Mutex<Option<String>>>,
}

impl ScraperReview {
    /// Asks by this client, whose account may create TokenReviews and SubjectAccessReviews.
    pub fn new(client: Client) -> ScraperReview {
        let (decisions, failed) = (Arc::default(), Arc::default());
        ScraperReview { client, decisions, asking: Arc::new(Semaphore::new(AT_ONCE)), failed }
    }

    /// Passes on the request of a client that may read the metrics, and answers the others.
    pub(super) async fn guard(self, request: Request, next: Next) -> Response {
        let Some(token) = bearer_token(request.headers()) else {
            return unauthorized("the metrics need the header Authorization: Bearer TOKEN\n");
        };
        match self.decide(token).await {
            Ok(ScraperDecision::Allowed) => next.run(request).await,
            Ok(ScraperDecision::UnknownToken) => unauthorized("the API server does not know this token\n"),
            Ok(ScraperDecision::Forbidden { user }) => answer(
                StatusCode::FORBIDDEN,
                format!(
                    "{user} may not get /metrics; a ClusterRole allows it with nonResourceURLs: [/metrics], verbs: [get]\n"
                ),
            ),
            // The cause is for the log: this client may be any program.
            Err(_) => answer(
                StatusCode::SERVICE_UNAVAILABLE,
                "cannot ask the API server whether this client may read the metrics; the agent's log says why\n".to_owned(),
            ),
        }
    }

    async fn decide(&self, token: &str) -> Result<ScraperDecision, String> {
        if let Some(decision) = self.decisions().of(token, Instant::now()) {
            return Ok(decision);
        }
        let asked = timeout(WAIT, async {
            let _one_of_few = self.asking.acquire().await.map_err(|error| error.to_string())?;
            // Another request with this token may have been answered meanwhile.
            if let Some(decision) = self.decisions().of(token, Instant::now()) {
                return Ok(decision);
            }
            let decision = self.ask(token).await.map_err(|error| with_causes(&error))?;
            self.decisions().remember(token, decision.clone(), Instant::now());
            Ok(decision)
        });
        let decision = asked.await.unwrap_or_else(|_| Err(format!("no answer within {} s", WAIT.as_secs())));
        self.log(decision.as_ref().err());
        decision
    }

    async fn ask(&self, token: &str) -> Result<ScraperDecision, kube::Error> {
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let known = reviews.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let Some(user) = known.user.filter(|_| known.authenticated == Some(true)) else {
            return Ok(ScraperDecision::UnknownToken);
        };
        let spec = SubjectAccessReviewSpec {
            non_resource_attributes: Some(NonResourceAttributes {
                path: Some("/metrics".to_owned()),
                verb: Some("get".to_owned()),
            }),
            user: user.username.clone(),
            uid: user.uid,
            groups: user.groups,
            extra: user.extra,
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let status = reviews.create(&PostParams::default(), &review).await?.status;
        Ok(match status.is_some_and(|status| status.allowed) {
            true => ScraperDecision::Allowed,
            false => ScraperDecision::Forbidden { user: user.username.unwrap_or_default() },
        })
    }

    fn decisions(&self) -> MutexGuard<'_, ScraperDecisions> {
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs an error unless it is the last one again.
    fn log(&self, error: Option<&String>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error.filter(|error| failed.as_ref() != Some(*error)) {
            tracing::warn!(error, "cannot ask the API server who may read the metrics; they are denied");
        }
        *failed = error.cloned();
    }
}

/// The token of a request that has exactly one.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (only, None) = (all.next()?, all.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty())
}

fn unauthorized(text: &str) -> Response {
    let mut response = answer(StatusCode::UNAUTHORIZED, text.to_owned());
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn answer(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
