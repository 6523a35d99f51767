//! A valid object of each kind that is stored.

use carrack_api::codec::{Media, decode};
use carrack_api::{Resource, Scope, find_kind};
use serde_json::Value;

/// The objects of `objects.yaml`, each with the row of its kind.
pub fn objects() -> Vec<(&'static Resource, Value)> {
    let texts = include_str!("objects.yaml").split("\n---\n");
    let object = |text: &str| {
        let value = decode(text.as_bytes(), Media::Yaml).unwrap().value;
        let (api_version, kind) = (value["apiVersion"].as_str().unwrap(), value["kind"].as_str().unwrap());
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        (find_kind(group, version, kind).unwrap(), value)
    };
    texts.map(object).collect()
}

/// Where the objects of a kind are; those of namespaces in `default`.
pub fn collection(resource: &Resource) -> String {
    match resource.scope {
        Scope::Namespaced => format!("{}/namespaces/default/{}", resource.root_path(), resource.plural),
        Scope::Cluster => format!("{}/{}", resource.root_path(), resource.plural),
    }
}
