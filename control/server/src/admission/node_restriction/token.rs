//! The tokens that a node may ask for: those of its pods, for the audiences that these pods use.

use std::collections::HashSet;

use serde_json::Value;

use super::super::list;
use super::{NodeRestriction, Verdict};
use crate::authn::text;
use crate::authz::verdict;
use crate::{AdmissionRequest, ApiError, Attributes};

/// The verb that lets a node name an audience that no volume of the pod does; the audience is the resource.
const VERB: &str = "request-serviceaccounts-token-audience";

impl NodeRestriction {
    /// A token is given out only for a pod that runs on the node.
    pub(super) async fn judge_token(
        &self,
        node: &str,
        request: &AdmissionRequest<'_>,
        wanted: Option<&Value>,
    ) -> Result<Verdict, ApiError> {
        let bound = wanted.and_then(|wanted| wanted.pointer("/spec/boundObjectRef"));
        let is_pod = |bound: &&Value| {
            text(bound, "/kind") == "Pod"
                && text(bound, "/apiVersion") == "v1"
                && !text(bound, "/name").is_empty()
        };
        let (Some(wanted), Some(bound)) = (wanted, bound.filter(is_pod)) else {
            return Ok(Err("node requested token not bound to a pod".into()));
        };
        let uid = text(bound, "/uid");
        if uid.is_empty() {
            return Ok(Err("node requested token with a pod binding without a uid".into()));
        }
        let namespace = &request.attributes.namespace;
        let Some(pod) = self.objects.get("", "pods", namespace, text(bound, "/name")).await? else {
            return Err(ApiError::not_found("", "pods", text(bound, "/name")));
        };
        if text(&pod, "/metadata/uid") != uid {
            return Ok(Err(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            )));
        }
        if text(&pod, "/spec/nodeName") != node {
            return Ok(Err("node requested token bound to a pod scheduled on a different node".into()));
        }
        self.judge_audience(request.attributes, wanted, &pod).await
    }

    async fn judge_audience(
        &self,
        request: &Attributes,
        wanted: &Value,
        pod: &Value,
    ) -> Result<Verdict, ApiError> {
        let mut asked = list(wanted, "/spec/audiences").map(|audience| audience.as_str().unwrap_or_default());
        let (audience, more) = (asked.next().unwrap_or_default(), asked.next());
        if more.is_some() {
            return Ok(Err("node may only request 0 or 1 audiences".into()));
        }
        if self.audiences(&request.namespace, pod).await?.contains(audience) {
            return Ok(Ok(()));
        }
        let question = Attributes {
            verb: VERB.into(),
            api_group: String::new(),
            version: "v1".into(),
            resource: audience.into(),
            subresource: String::new(),
            ..request.clone()
        };
        // No audience at all is none that a rule could name.
        if !audience.is_empty() && verdict(&self.authorizers, &question).await.is_ok() {
            return Ok(Ok(()));
        }
        Ok(Err(format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this \
             audience",
            request.user.name
        )))
    }

    /// The audiences that the pod's volumes use; the empty one is the API server.
    async fn audiences(&self, namespace: &str, pod: &Value) -> Result<HashSet<String>, ApiError> {
        let mut found = HashSet::new();
        for volume in list(pod, "/spec/volumes") {
            for source in list(volume, "/projected/sources") {
                if let Some(token) = source.get("serviceAccountToken") {
                    found.insert(text(token, "/audience").to_owned());
                }
            }
            let driver = self.driver(namespace, pod, volume).await?;
            if driver.is_empty() {
                continue;
            }
            let driver = self.objects.get("storage.k8s.io", "csidrivers", "", &driver).await?;
            for token in driver.iter().flat_map(|driver| list(driver, "/spec/tokenRequests")) {
                found.insert(text(token, "/audience").to_owned());
            }
        }
        Ok(found)
    }

    /// The CSI driver behind a volume: its own, or that of the claim's PersistentVolume; empty for none.
    async fn driver(&self, namespace: &str, pod: &Value, volume: &Value) -> Result<String, ApiError> {
        let inline = text(volume, "/csi/driver");
        if !inline.is_empty() {
            return Ok(inline.to_owned());
        }
        let claim = match text(volume, "/persistentVolumeClaim/claimName") {
            "" if volume.get("ephemeral").is_some() => {
                format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name"))
            }
            claim => claim.to_owned(),
        };
        if claim.is_empty() {
            return Ok(String::new());
        }
        let claim = self.objects.get("", "persistentvolumeclaims", namespace, &claim).await?;
        let name = claim.as_deref().map_or("", |claim| text(claim, "/spec/volumeName"));
        if name.is_empty() {
            return Ok(String::new());
        }
        let volume = self.objects.get("", "persistentvolumes", "", name).await?;
        Ok(volume.map_or(String::new(), |volume| text(&volume, "/spec/csi/driver").to_owned()))
    }
}
