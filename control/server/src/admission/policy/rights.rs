//! The variable `authorizer`: asks this server's authorizers on behalf of whoever makes the request.
//!
//! Expressions do not wait, and authorization webhooks are asked over the network. So an expression is evaluated by what
//! is known; what it wanted to know beside that is asked then, and it is evaluated once more, until nothing is wanted
//! ([`Rights::settled`]). Expressions have no side effects: only the last evaluation counts.

use std::sync::Arc;

use carrack_cel::{Authorize, Check, Verdict};
use parking_lot::Mutex;

use crate::authz::decision;
use crate::{Attributes, Authorizer, Decision, Selectors, UserInfo};

/// Most questions that the expressions of one policy or webhook ask authorization webhooks about one request.
const MOST_ASKED: usize = 64;

/// Who asks, and who answers.
pub(in crate::admission) struct Rights {
    authorizers: Vec<Arc<dyn Authorizer>>,
    user: UserInfo,
    /// What was asked over the network.
    answers: Mutex<Vec<(Check, Verdict)>>,
    /// What is still to be asked.
    wanted: Mutex<Vec<Check>>,
}

impl Rights {
    pub(in crate::admission) fn new(authorizers: Vec<Arc<dyn Authorizer>>, user: UserInfo) -> Self {
        Rights { authorizers, user, answers: Mutex::default(), wanted: Mutex::default() }
    }

    /// Evaluates until all that was asked for has an answer.
    pub(in crate::admission) async fn settled<T>(&self, mut evaluate: impl FnMut() -> T) -> T {
        loop {
            let value = evaluate();
            let wanted = std::mem::take(&mut *self.wanted.lock());
            if wanted.is_empty() {
                return value;
            }
            drop(value);
            for check in wanted {
                let verdict = told(decision(&self.authorizers, &self.question(&check)).await);
                self.answers.lock().push((check, verdict));
            }
        }
    }

    /// The answer of somebody who is not in this process: one that is known, or none yet.
    fn asked(&self, check: &Check) -> Verdict {
        let answers = self.answers.lock();
        if let Some((_, verdict)) = answers.iter().find(|(known, _)| known == check) {
            return verdict.clone();
        }
        let mut wanted = self.wanted.lock();
        let error = if answers.len() + wanted.len() >= MOST_ASKED {
            format!("expressions may ask authorization webhooks {MOST_ASKED} questions about a request")
        } else {
            if !wanted.contains(check) {
                wanted.push(check.clone());
            }
            "the authorization webhook has not answered yet".to_owned()
        };
        Verdict { error: Some(error), ..Verdict::default() }
    }

    fn question(&self, check: &Check) -> Attributes {
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
        Attributes {
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
        }
    }
}

impl Authorize for Rights {
    fn authorize(&self, check: &Check) -> Verdict {
        let question = self.question(check);
        let mut reasons = Vec::new();
        for authorizer in &self.authorizers {
            match authorizer.authorize(&question) {
                Decision::NoOpinion(reason) => reasons.push(reason),
                Decision::Ask => return self.asked(check),
                decided => return told(decided),
            }
        }
        reasons.retain(|reason| !reason.is_empty());
        told(Decision::NoOpinion(reasons.join(", ")))
    }
}

/// What expressions are told of a decision.
fn told(decision: Decision) -> Verdict {
    match decision {
        Decision::Allow => Verdict { allowed: true, ..Verdict::default() },
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Verdict { reason, ..Verdict::default() },
        Decision::Ask => {
            let error = Some("nobody answered".to_owned());
            Verdict { error, ..Verdict::default() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Has to be asked about everything; allows `get`.
    #[derive(Default)]
    struct Far(AtomicUsize);

    #[async_trait::async_trait]
    impl Authorizer for Far {
        fn authorize(&self, _: &Attributes) -> Decision {
            Decision::Ask
        }
        async fn ask(&self, request: &Attributes) -> Decision {
            tokio::task::yield_now().await;
            self.0.fetch_add(1, Ordering::Relaxed);
            if request.verb == "get" { Decision::Allow } else { Decision::Deny("only get".into()) }
        }
    }

    fn check(verb: &str) -> Check {
        Check { verb: verb.into(), resource: "pods".into(), ..Check::default() }
    }

    #[tokio::test]
    async fn what_has_to_be_asked_is_asked_once_and_then_known() {
        let far = Arc::new(Far::default());
        let rights = Rights::new(vec![far.clone()], UserInfo::new("ann", []));
        let mut rounds = 0;
        let value = rights.settled(|| {
            rounds += 1;
            let first = rights.authorize(&check("get"));
            // The second question depends on the answer to the first.
            first.allowed.then(|| (rights.authorize(&check("get")), rights.authorize(&check("list"))))
        });
        let (get, list) = value.await.unwrap();
        assert!(get.allowed && get.error.is_none());
        assert!(!list.allowed && list.error.is_none() && list.reason == "only get", "{list:?}");
        assert_eq!((rounds, far.0.load(Ordering::Relaxed)), (3, 2));
        rights.settled(|| assert!(rights.authorize(&check("get")).allowed)).await;
        assert_eq!(far.0.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn questions_are_bounded() {
        let far = Arc::new(Far::default());
        let rights = Rights::new(vec![far.clone()], UserInfo::new("ann", []));
        let ask = || (0..200).map(|n| rights.authorize(&check(&format!("verb{n}")))).collect::<Vec<_>>();
        let verdicts = rights.settled(ask).await;
        assert_eq!(far.0.load(Ordering::Relaxed), MOST_ASKED);
        assert_eq!(verdicts.iter().filter(|verdict| verdict.error.is_some()).count(), 200 - MOST_ASKED);
    }

    #[test]
    fn memory_answers_by_itself() {
        let rights = Rights::new(Vec::new(), UserInfo::default());
        assert_eq!(rights.authorize(&check("get")), Verdict::default());
        assert!(rights.wanted.lock().is_empty());
    }
}
