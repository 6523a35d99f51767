//! The variable `authorizer`: asks this server's authorizers on behalf of whoever makes the request.

use std::sync::Arc;

use carrack_cel::{Authorize, Check, Verdict};

use crate::{Attributes, Authorizer, Decision, Selectors, UserInfo};

/// Who asks, and who answers.
pub(super) struct Rights {
    pub(super) authorizers: Vec<Arc<dyn Authorizer>>,
    pub(super) user: UserInfo,
}

impl Authorize for Rights {
    fn authorize(&self, check: &Check) -> Verdict {
        let user = match &check.service_account {
            Some((namespace, name)) => {
                let group = format!("system:serviceaccounts:{namespace}");
                UserInfo::new(
                    format!("system:serviceaccount:{namespace}:{name}"),
                    ["system:serviceaccounts", group.as_str()],
                )
            }
            None => self.user.clone(),
        };
        let question = Attributes {
            user,
            verb: check.verb.clone(),
            api_group: check.group.clone(),
            version: "*".to_owned(),
            resource: check.resource.clone(),
            subresource: check.subresource.clone(),
            name: check.name.clone(),
            namespace: check.namespace.clone(),
            path: check.path.clone().unwrap_or_default(),
            selectors: Selectors::default(),
        };
        let mut reasons = Vec::new();
        for authorizer in &self.authorizers {
            match authorizer.authorize(&question) {
                Decision::Allow => return Verdict { allowed: true, ..Verdict::default() },
                Decision::Deny(reason) => return Verdict { reason, ..Verdict::default() },
                Decision::NoOpinion(reason) => reasons.push(reason),
                // An expression does not wait; what the webhook has answered before is not `Ask`.
                Decision::Ask => {
                    let error = "an authorization webhook would have to be asked, which expressions cannot";
                    return Verdict { error: Some(error.to_owned()), ..Verdict::default() };
                }
            }
        }
        reasons.retain(|reason| !reason.is_empty());
        Verdict { reason: reasons.join(", "), ..Verdict::default() }
    }
}
