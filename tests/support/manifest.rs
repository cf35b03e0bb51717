//! Kubernetes objects from a scenario's YAML.
//!
//! This is deliberately a minimal reader: serde and the API's shapes. It is not the program's reader, so that a mistake
//! in that one shows as a difference.

use bridgewarden::api::{Namespace, NetworkPolicy, Pod};
use bridgewarden::explain::oracle::World;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml_ng::{Deserializer, Value};

/// Reads a stream of YAML documents.
///
/// # Errors
/// A message that says which document, counted from 1, can't be read and why.
pub fn parse(text: &str) -> Result<World, String> {
    let mut world = World::default();
    for (number, document) in (1..).zip(Deserializer::from_str(text)) {
        let read = |problem: String| format!("document {number}: {problem}");
        let object = Value::deserialize(document).map_err(|error| read(error.to_string()))?;
        let word = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        match (word("apiVersion").as_str(), word("kind").as_str()) {
            ("v1", "Namespace") => world.namespaces.push(shape::<Namespace>(object).map_err(read)?),
            ("v1", "Pod") => world.pods.push(shape::<Pod>(object).map_err(read)?),
            ("networking.k8s.io/v1", "NetworkPolicy") => {
                world.policies.push(shape::<NetworkPolicy>(object).map_err(read)?);
            }
            (version, kind) => {
                return Err(read(format!("`{version}` `{kind}` is not an object of a scenario")));
            }
        }
    }
    Ok(world)
}

/// Writes a world as manifests: a stream of JSON documents, which YAML can read.
pub fn write(world: &World) -> String {
    let object = |version: &str, kind: &str, body: serde_json::Result<serde_json::Value>| {
        let mut object = body.expect("the API's shapes are JSON");
        object["apiVersion"] = version.into();
        object["kind"] = kind.into();
        object
    };
    let namespaces = world.namespaces.iter().map(|it| object("v1", "Namespace", serde_json::to_value(it)));
    let pods = world.pods.iter().map(|it| object("v1", "Pod", serde_json::to_value(it)));
    let policies = world
        .policies
        .iter()
        .map(|it| object("networking.k8s.io/v1", "NetworkPolicy", serde_json::to_value(it)));
    namespaces.chain(pods).chain(policies).map(|object| format!("---\n{object}\n")).collect()
}

fn shape<T: DeserializeOwned>(object: Value) -> Result<T, String> {
    serde_yaml_ng::from_value(object).map_err(|error| error.to_string())
}
