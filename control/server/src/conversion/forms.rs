//! Objects in the versions that their managers wrote them in: what tracking of fields needs to know when a webhook
//! converts. Tracking is pure, so that it cannot ask; it says what it lacks, and runs again when that is there.

use carrack_api::apply::Versions;
use parking_lot::Mutex;
use serde_json::Value;

use crate::ApiError;
use crate::call::Call;

/// How often what was lacking is looked for: tracking asks for two objects in each version.
const ROUNDS: usize = 4;

/// Conversions that are known, and those that were asked for and are not.
#[derive(Default)]
pub(crate) struct Forms(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    known: Vec<(Value, String, Value)>,
    lacking: Vec<(Value, String)>,
    rounds: usize,
}

impl Versions for Forms {
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        let mut inner = self.0.lock();
        let is = |of: &Value, version: &str| version == api_version && of == object;
        if let Some((_, _, form)) = inner.known.iter().find(|(of, version, _)| is(of, version)) {
            return Some(form.clone());
        }
        if !inner.lacking.iter().any(|(of, version)| is(of, version)) {
            inner.lacking.push((object.clone(), api_version.to_owned()));
        }
        None
    }
}

impl Forms {
    /// Whether something was asked for in vain, so that what came of it means nothing.
    pub(crate) fn lacks(&self) -> bool {
        !self.0.lock().lacking.is_empty()
    }

    /// Converts what was lacking; false when nothing was.
    pub(crate) async fn fill(&self, call: &Call) -> Result<bool, ApiError> {
        let lacking = {
            let mut inner = self.0.lock();
            inner.rounds += 1;
            std::mem::take(&mut inner.lacking)
        };
        let Some(custom) = call.resource.custom().filter(|_| !lacking.is_empty()) else { return Ok(false) };
        if self.0.lock().rounds > ROUNDS {
            return Err(ApiError::internal("the managers of the object's fields cannot be told apart"));
        }
        for (object, api_version) in lacking {
            let form = call.server.converter.convert(custom, &object, &api_version).await?;
            self.0.lock().known.push((object, api_version, form));
        }
        Ok(true)
    }
}
