//! Mutating webhooks: one after the other, and once more for those that want to see what others changed after them.

use std::collections::BTreeSet;
use std::sync::Arc;

use carrack_api::patch;
use serde_json::Value;

use super::super::matching::Form;
use super::ask::{Failure, ask, judge};
use super::asked::Asked;
use super::hook::Hook;
use crate::ApiError;

/// The mutating webhooks of one request, with what is known of them between two rounds.
pub(crate) struct Mutation<'a> {
    asked: Asked<'a>,
    hooks: Arc<[Arc<Hook>]>,
    /// Those that want to be asked again and were asked since the object changed last, by their place.
    seen: BTreeSet<usize>,
    /// Those that are to be asked in the second round.
    again: BTreeSet<usize>,
    second: bool,
    /// What the first round made of the object.
    left: Option<Value>,
}

impl<'a> Mutation<'a> {
    pub(super) fn new(asked: Asked<'a>, hooks: Arc<[Arc<Hook>]>) -> Self {
        let none = BTreeSet::new();
        Mutation { asked, hooks, seen: none.clone(), again: none, second: false, left: None }
    }

    /// The first round. Says whether a webhook changed the object: then the plugins of this server run again, and
    /// [`Mutation::run_again`] follows.
    pub(crate) async fn run(&mut self, object: &mut Value) -> Result<bool, ApiError> {
        let changed = self.round(Some(object)).await?;
        self.left = Some(object.clone());
        Ok(changed)
    }

    /// The second and last round, for webhooks with `reinvocationPolicy: IfNeeded` that were asked before others
    /// changed the object.
    pub(crate) async fn run_again(&mut self, object: &mut Value) -> Result<(), ApiError> {
        self.second = true;
        if self.left.as_ref() != Some(object) {
            self.again.append(&mut self.seen);
        }
        self.round(Some(object)).await.map(drop)
    }

    /// The only round of a deletion, which has no object to change.
    pub(crate) async fn run_without_object(&mut self) -> Result<(), ApiError> {
        self.round(None).await.map(drop)
    }

    async fn round(&mut self, mut object: Option<&mut Value>) -> Result<bool, ApiError> {
        let mut changed = false;
        for (place, hook) in self.hooks.clone().iter().enumerate() {
            if self.second && !self.again.contains(&place) {
                continue;
            }
            let Some(form) = self.asked.form(hook, object.as_deref()).await? else { continue };
            match self.apply(hook, &form, object.as_deref_mut()).await {
                Ok(true) => {
                    changed = true;
                    self.again.append(&mut self.seen);
                }
                Ok(false) => {}
                Err(failure) => judge(hook, failure)?,
            }
            if hook.reinvoke {
                self.seen.insert(place);
            }
        }
        Ok(changed)
    }

    /// Asks one webhook and applies its patch; says whether the object changed.
    async fn apply(&self, hook: &Hook, form: &Form, object: Option<&mut Value>) -> Result<bool, Failure> {
        let shown = self.asked.show_any(form, object.as_deref()).await.map_err(Failure::Refused)?;
        let patch = ask(&self.asked, hook, form, true, shown.as_ref()).await?;
        if patch.is_empty() {
            return Ok(false);
        }
        let patch: Value = serde_json::from_slice(&patch).map_err(|why| {
            Failure::Calling(format!("received undecodable patch in webhook response: {why}"))
        })?;
        if patch.as_array().is_some_and(Vec::is_empty) {
            return Ok(false);
        }
        let (Some(object), Some(mut patched)) = (object, shown) else {
            return Err(Failure::Refused(ApiError::internal(format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                hook.name
            ))));
        };
        let refuse = |why: &dyn std::fmt::Display| Failure::Refused(ApiError::internal(why));
        patch::json_patch(&mut patched, patch).map_err(|why| refuse(&why))?;
        let before = object.clone();
        self.asked.take(form, object, patched).await.map_err(Failure::Refused)?;
        Ok(*object != before)
    }
}
