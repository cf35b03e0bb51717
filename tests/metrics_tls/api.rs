//! An API server that knows some tokens, and which of their users may get `/metrics`.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bridgewarden::source::{Liveness, connect};
use kube::Client;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The API server, until it is stopped.
pub(crate) struct ReviewApi {
    pub(crate) client: Client,
    reviews: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl ReviewApi {
    /// Knows the tokens `prometheus` and `jane`; only the first one's user may get `/metrics`.
    pub(crate) async fn start(directory: &Path) -> ReviewApi {
        let reviews = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let server = format!("http://{}", listener.local_addr().expect("a listener has an address"));
        let router = Router::new()
            .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review_token))
            .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", post(review_access))
            .with_state(Arc::clone(&reviews));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("the server runs") });
        let kubeconfig = directory.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "s", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "s", "user": "u"}}],
        });
        fs::write(&kubeconfig, config.to_string()).expect("the file can be written");
        let client = connect(Some(&kubeconfig), Liveness::new(Instant::now())).await.expect("a client");
        ReviewApi { client, reviews, task }
    }

    /// The reviews that were asked for: their specs.
    pub(crate) fn reviews(&self) -> Vec<Value> {
        self.reviews.lock().expect("no handler panics").clone()
    }

    /// Answers nothing any more.
    pub(crate) async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

async fn review_token(State(reviews): State<Arc<Mutex<Vec<Value>>>>, body: String) -> String {
    let mut review: Value = serde_json::from_str(&body).expect("a review is JSON");
    reviews.lock().expect("no handler panics").push(review["spec"].clone());
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    review["status"] = match token {
        "prometheus" | "jane" => json!({"authenticated": true, "user": user(token)}),
        _ => json!({"authenticated": false, "error": "invalid bearer token"}),
    };
    review.to_string()
}

/// What the API server says of the user of a token.
pub(crate) fn user(token: &str) -> Value {
    json!({"username": token, "uid": "7", "groups": ["system:authenticated"], "extra": {"example.org/node": ["a"]}})
}

async fn review_access(State(reviews): State<Arc<Mutex<Vec<Value>>>>, body: String) -> String {
    let mut review: Value = serde_json::from_str(&body).expect("a review is JSON");
    reviews.lock().expect("no handler panics").push(review["spec"].clone());
    review["status"] = json!({"allowed": review["spec"]["user"] == "prometheus"});
    review.to_string()
}
