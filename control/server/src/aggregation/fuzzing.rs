//! What another API server says of itself.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Known;
use super::discovery::{merge_groups, merge_items};
use super::remote::Remote;

/// An `APIResourceList`, put into both forms of discovery.
pub(crate) fn described(resources: &Value) {
    let spec = json!({"group": "g.example", "version": "v1", "service": {"namespace": "n", "name": "s"}});
    let remote = Remote::read("v1.g.example", &json!({"spec": spec})).expect("it names a service");
    let known = Known { resources: Arc::new(resources.clone()), openapi: None, openapi_v2: None };
    let described = [(Arc::new(remote), Some(known))];
    let (mut groups, mut items) = (Vec::new(), Vec::new());
    merge_groups(&mut groups, &described);
    merge_items(&mut items, &described);
    assert_eq!((groups.len(), items.len()), (1, 1), "there is one group");
}
