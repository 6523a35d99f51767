//! Creates or updates what a manifest says, as `kubectl apply` would.

use anyhow::{Context, Result, bail};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Client, Discovery};
use serde_json::Value;

/// The documents of a YAML text.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let parts = text
        .split("\n---")
        .map(str::trim)
        .filter(|part| part.lines().any(|l| !l.trim_start().starts_with('#')));
    parts.map(|part| serde_saphyr::from_str(part.trim_start_matches("---")).context("YAML")).collect()
}

/// Creates each object, or merges it into the one that is there.
pub async fn apply(client: &Client, namespace: &str, text: &str) -> Result<()> {
    let discovery = Discovery::new(client.clone()).run().await?;
    for value in documents(text)? {
        let object: DynamicObject = serde_json::from_value(value)?;
        let types = object.types.clone().context("an object without apiVersion and kind")?;
        let gvk = GroupVersionKind::try_from(&types)?;
        let Some((resource, capabilities)) = discovery.resolve_gvk(&gvk) else {
            bail!("{gvk:?} is not served")
        };
        let namespaced = capabilities.scope == kube::discovery::Scope::Namespaced;
        put(client, &resource, namespaced.then_some(namespace), object).await?;
    }
    Ok(())
}

async fn put(
    client: &Client,
    resource: &ApiResource,
    namespace: Option<&str>,
    object: DynamicObject,
) -> Result<()> {
    let name = object.metadata.name.clone().context("an object without a name")?;
    let api: Api<DynamicObject> = match (&object.metadata.namespace, namespace) {
        (_, None) => Api::all_with(client.clone(), resource),
        (Some(own), _) => Api::namespaced_with(client.clone(), own, resource),
        (None, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, resource),
    };
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&object)).await?;
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("{} {name}", resource.kind)),
    }
}
