//! Authorizers whose configuration can change while the server runs. To the server they are one.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::RwLock;

use super::config::Choice;
use super::decision;
use crate::{Attributes, Authorizer, Decision, ReloadError, RuleList, UserInfo};

/// The authorizers of the present configuration, in order.
pub struct Changeable {
    current: RwLock<Arc<[Arc<dyn Authorizer>]>>,
    /// Those that are no webhooks, which have to stay.
    own: BTreeSet<&'static str>,
}

impl Changeable {
    /// Begins with these, which were made of `choices`.
    pub fn new(choices: &[Choice], authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        Changeable { current: RwLock::new(authorizers.into()), own: own(choices) }
    }

    /// Asks these from now on. Only webhooks may come and go, as upstream: a mistake in a file does not turn off Node or
    /// RBAC.
    pub fn adopt(
        &self,
        choices: &[Choice],
        authorizers: Vec<Arc<dyn Authorizer>>,
    ) -> Result<(), ReloadError> {
        let wanted = own(choices);
        if wanted != self.own {
            return Err(ReloadError::Wrong(format!(
                "authorizers: beside webhooks these were there at the start and have to stay: {:?}; the file has {wanted:?}",
                self.own
            )));
        }
        *self.current.write() = authorizers.into();
        Ok(())
    }

    fn now(&self) -> Arc<[Arc<dyn Authorizer>]> {
        self.current.read().clone()
    }
}

fn own(choices: &[Choice]) -> BTreeSet<&'static str> {
    choices.iter().filter_map(Choice::own_type).collect()
}

#[async_trait::async_trait]
impl Authorizer for Changeable {
    fn authorize(&self, attributes: &Attributes) -> Decision {
        let mut reasons = Vec::new();
        for authorizer in &*self.now() {
            match authorizer.authorize(attributes) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    async fn ask(&self, attributes: &Attributes) -> Decision {
        let now = self.now();
        decision(&now, attributes).await
    }

    async fn catch_up(&self) {
        for authorizer in &*self.now() {
            authorizer.catch_up().await;
        }
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> RuleList {
        let mut all = RuleList::default();
        for authorizer in &*self.now() {
            let rules = authorizer.rules(user, namespace);
            all.resource_rules.extend(rules.resource_rules);
            all.non_resource_rules.extend(rules.non_resource_rules);
            all.incomplete |= rules.incomplete;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::config::authorizers;

    fn made(choices: &[Choice]) -> Vec<Arc<dyn Authorizer>> {
        let all = authorizers(&[Choice::AlwaysAllow, Choice::AlwaysDeny], &nobody(), &nobody()).unwrap();
        let pick = |choice: &Choice| match choice {
            Choice::AlwaysAllow => all[0].clone(),
            _ => all[1].clone(),
        };
        choices.iter().map(pick).collect()
    }

    fn nobody() -> Arc<dyn Authorizer> {
        Arc::new(Changeable::new(&[], Vec::new()))
    }

    #[tokio::test]
    async fn order_can_change_and_what_is_no_webhook_stays() {
        let (allow, deny) = (Choice::AlwaysAllow, Choice::Rbac);
        let first = [deny.clone(), allow.clone()];
        let both = Changeable::new(&first, made(&first));
        let asked = Attributes::default();
        assert_eq!(both.authorize(&asked), Decision::Allow);
        assert_eq!(both.ask(&asked).await, Decision::Allow);
        assert_eq!(both.rules(&asked.user, "").resource_rules.len(), 1);

        let less = [deny.clone()];
        assert!(matches!(both.adopt(&less, made(&less)), Err(ReloadError::Wrong(_))));
        assert_eq!(both.authorize(&asked), Decision::Allow, "what was stays in force");
        let turned = [allow, deny.clone()];
        both.adopt(&turned, made(&[deny.clone(), deny])).unwrap();
        assert!(matches!(both.authorize(&asked), Decision::NoOpinion(_)), "the new ones are asked");
    }
}
