//! The key of an object, `namespace/name`.

use anyhow::{Error, Result, bail};
use bridgewarden::testbed::Endpoint;
use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// A namespaced object's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

impl ObjectKey {
    /// A name in a namespace.
    pub fn new(namespace: &str, name: &str) -> ObjectKey {
        ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The pod of this name, to the prober.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::pod(&self.namespace, &self.name)
    }
}

impl FromStr for ObjectKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<ObjectKey> {
        match text.split_once('/') {
            Some((namespace, name)) if ![namespace, name].contains(&"") && !name.contains('/') => {
                Ok(ObjectKey::new(namespace, name))
            }
            Some(_) | None => bail!("`{text}` is no namespace/name"),
        }
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = Error;

    fn try_from(text: String) -> Result<ObjectKey> {
        text.parse()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
