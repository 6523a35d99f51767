//! All webhooks in memory, in the order they are asked: by the name of their configuration, then as it lists them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::hook::Hook;
use crate::authz::index::Index;

/// The two kinds of configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Mutating = 0,
    Validating = 1,
}

/// The webhooks.
#[derive(Default)]
pub(crate) struct Hooks([Kind; 2]);

#[derive(Default)]
struct Kind {
    configurations: BTreeMap<String, Vec<Arc<Hook>>>,
    /// All of them, ready to be taken along.
    list: Arc<[Arc<Hook>]>,
}

impl Kind {
    fn gather(&mut self) {
        self.list = self.configurations.values().flatten().cloned().collect();
    }
}

impl Hooks {
    pub(super) fn list(&self, which: Which) -> Arc<[Arc<Hook>]> {
        Arc::clone(&self.0[which as usize].list)
    }
}

impl Index for Hooks {
    const WHAT: &'static str = "webhook configurations";
    const RESOURCES: &'static [(&'static str, &'static str)] = &[
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ];

    fn put(&mut self, resource: usize, _: &str, name: &str, object: &Value) {
        let webhooks = object.get("webhooks").and_then(Value::as_array).into_iter().flatten();
        let hooks = webhooks.filter_map(|webhook| match Hook::read(name, webhook) {
            Ok(hook) => Some(Arc::new(hook)),
            Err(error) => {
                // Validation does not let this in.
                tracing::error!(configuration = name, %error, "a webhook that cannot be read is not asked");
                None
            }
        });
        let kind = &mut self.0[resource];
        kind.configurations.insert(name.to_owned(), hooks.collect());
        kind.gather();
    }

    fn remove(&mut self, resource: usize, _: &str, name: &str) {
        let kind = &mut self.0[resource];
        kind.configurations.remove(name);
        kind.gather();
    }
}
