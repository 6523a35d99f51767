//! The ConfigMap that says since when Secrets tell that their token was used: who cleans up may not judge by what was
//! not noted before.

use std::time::Duration;

use carrack_store::Event;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::{CareError, Job};
use crate::authn::legacy::date;
use crate::authn::{Objects, text};
use crate::server::ApiServer;
use crate::store_objects::StoreObjects;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-apiserver-legacy-service-account-token-tracking";

pub(super) struct Tracking;

#[async_trait::async_trait]
impl Job for Tracking {
    fn name(&self) -> &'static str {
        "since when tokens are tracked"
    }

    fn watched(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "configmaps")]
    }

    fn concerns(&self, event: &Event) -> bool {
        event.kv.key.ends_with(format!("/{NAMESPACE}/{NAME}").as_bytes())
    }

    async fn sweep(&self, api: &ApiServer) -> Result<Option<Duration>, CareError> {
        let maps = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
        let found = StoreObjects::new(api.store().clone()).get("", "configmaps", NAMESPACE, NAME).await?;
        let today = date(Timestamp::now());
        let Some(found) = found else {
            let map = json!({"metadata": {"name": NAME}, "data": {"since": today}});
            api.ensure(&maps, map, |_| None).await?;
            return Ok(None);
        };
        if text(&found, "/data/since").parse::<Date>().is_err() {
            let mut mended = Value::clone(&found);
            if !mended["data"].is_object() {
                mended["data"] = json!({});
            }
            mended["data"]["since"] = json!(today);
            api.replace(&format!("{maps}/{NAME}"), &mended).await?;
        }
        Ok(None)
    }
}
