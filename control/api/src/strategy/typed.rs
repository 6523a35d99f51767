//! The adapter between typed rules and the erased [`Strategy`].

use std::borrow::Cow;
use std::marker::PhantomData;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Strategy;
use super::lean::Lean;
use crate::meta::{self, NameRule};
use crate::resource::Scope;
use crate::status::{FieldError, FieldPath};

/// What a kind says of itself. Everything has a sensible answer for a plain kind without status or generations.
pub trait Rules: Send + Sync {
    /// The kind's type.
    type Object: DeserializeOwned;

    /// Whether finalizers have to say whose they are. Upstream asks it of most kinds.
    const FINALIZERS_HAVE_DOMAINS: bool = true;
    /// Namespaced or not.
    const SCOPE: Scope = Scope::Namespaced;
    /// What names are allowed.
    const NAME: NameRule = NameRule::Subdomain;
    /// Whether `status` is written through its own subresource.
    const HAS_STATUS: bool = false;
    /// Whether `metadata.generation` counts changes of everything but metadata and status.
    const HAS_GENERATION: bool = false;
    /// Whether a change of annotations counts as one, too: what controllers read there is part of what is wanted.
    const ANNOTATIONS_COUNT: bool = false;
    /// Fields of metadata, beside `generation`, that a write of `status` does not change.
    const STATUS_KEEPS: &'static [&'static str] = &[];
    /// Whether [`Rules::validate_update`] looks at nothing of the old object but its `spec`, and
    /// [`Rules::validate_status_update`] at nothing but its `status` and metadata: what did not change of an old object is
    /// not decoded then.
    const COMPARES_ONE_PART: bool = false;
    /// Whether a PUT may create.
    const CREATE_ON_UPDATE: bool = false;
    /// Whether an update may leave out `metadata.resourceVersion`.
    const UNCONDITIONAL_UPDATE: bool = true;
    /// Fields that selectors may use.
    const SELECTABLE: &'static [&'static str] = &["metadata.name", "metadata.namespace"];

    /// Fills what was left out.
    fn default(_object: &mut Value) {}
    /// Kind-specific part of preparing a create, after status and generation.
    fn prepare_create(_object: &mut Value) {}
    /// Kind-specific part of preparing an update, before status and generation.
    fn prepare_update(_new: &mut Value, _old: &Value) {}
    /// Kind-specific part of preparing a status update.
    fn prepare_status_update(_new: &mut Value, _old: &Value) {}
    /// See [`Strategy::prepare_delete`].
    fn prepare_delete(_object: &mut Value, _now: Timestamp) {}
    /// See [`Strategy::prepare_part_update`]; the generation is raised afterwards where something changed.
    fn prepare_part_update(_part: &str, _new: &mut Value, _old: &Value) -> bool {
        false
    }
    /// See [`Strategy::validate_part_update`], without metadata.
    fn validate_part_update(_part: &str, _new: &Value, _old: &Value, _errors: &mut Vec<FieldError>) {}
    /// What the types cannot tell, such as whether a field was there at all; asked on create and update.
    fn validate_presence(_object: &Value, _errors: &mut Vec<FieldError>) {}
    /// What is wrong with a change apart from what [`Rules::validate_update`] is told of, such as annotations.
    fn validate_change(_new: &Value, _old: &Value, _errors: &mut Vec<FieldError>) {}
    /// Validation of a new object without metadata.
    fn validate(_object: &Self::Object, _errors: &mut Vec<FieldError>) {}
    /// Validation of a change; the default validates the new object.
    fn validate_update(new: &Self::Object, _old: &Self::Object, errors: &mut Vec<FieldError>) {
        Self::validate(new, errors);
    }
    /// Validation of a change of status.
    fn validate_status_update(_new: &Self::Object, _old: &Self::Object, _errors: &mut Vec<FieldError>) {}
    /// Advice for the user about a new object, or about what replaces an `old` one.
    fn warnings(_new: &Self::Object, _old: Option<&Self::Object>, _warnings: &mut Vec<String>) {}
    /// Value of a selectable field; the default follows the name as a path.
    fn selectable<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
        meta::text_at(object, field)
    }
    /// See [`Strategy::grace_period`].
    fn grace_period(_object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }
}

/// A [`Strategy`] made of [`Rules`].
pub struct Typed<R>(PhantomData<R>);

impl<R> Typed<R> {
    /// The adapter; it has no state.
    pub const fn new() -> Self {
        Typed(PhantomData)
    }
}

impl<R> Default for Typed<R> {
    fn default() -> Self {
        Self::new()
    }
}

/// Decodes an object whose shape was checked before; a failure is a fault of ours and is reported as such.
fn typed<T: DeserializeOwned>(object: Lean<'_>, errors: &mut Vec<FieldError>) -> Option<T> {
    match T::deserialize(object) {
        Ok(typed) => Some(typed),
        Err(why) => {
            errors.push(FieldError::internal(&FieldPath::default(), why));
            None
        }
    }
}

/// Finalizers of a kind whose finalizers have domains.
fn kube_finalizers<R: Rules>(object: &Value, errors: &mut Vec<FieldError>) {
    if R::FINALIZERS_HAVE_DOMAINS {
        meta::validate_kube_finalizers(object, errors);
    }
}

/// Keeps the generation, or raises it when what is wanted changed.
fn count_generation<R: Rules>(new: &mut Value, old: &Value) {
    meta::copy_in_metadata(new, old, "generation");
    let differs = || {
        meta::wanted_state_differs(new, old)
            || (R::ANNOTATIONS_COUNT && meta::differs_in_metadata(new, old, "annotations"))
    };
    if R::HAS_GENERATION && differs() {
        meta::set_generation(new, meta::generation(old) + 1);
    }
}

impl<R: Rules> Strategy for Typed<R> {
    fn default(&self, object: &mut Value) {
        R::default(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        if R::HAS_STATUS {
            meta::clear_status(object);
        }
        if R::HAS_GENERATION {
            meta::set_generation(object, 1);
        } else {
            meta::remove_in_metadata(object, "generation");
        }
        R::prepare_create(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if R::HAS_STATUS {
            meta::copy_field(new, old, "status");
        }
        R::prepare_update(new, old);
        count_generation::<R>(new, old);
    }

    fn prepare_delete(&self, object: &mut Value, now: Timestamp) {
        R::prepare_delete(object, now);
    }

    fn prepare_part_update(&self, part: &str, new: &mut Value, old: &Value) -> bool {
        let known = R::prepare_part_update(part, new, old);
        count_generation::<R>(new, old);
        known
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        meta::keep_all_but_status(new, old, R::STATUS_KEEPS);
        R::prepare_status_update(new, old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        self.review(object, None).0
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.review(new, Some(old)).0
    }

    fn review(&self, new: &Value, old: Option<&Value>) -> (Vec<FieldError>, Vec<String>) {
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        match old {
            None => meta::validate_create(new, R::SCOPE, R::NAME, &mut errors),
            Some(old) => {
                meta::validate_update(new, old, &mut errors);
                R::validate_change(new, old, &mut errors);
            }
        }
        kube_finalizers::<R>(new, &mut errors);
        R::validate_presence(new, &mut errors);
        // Decoded once for all: that is most of the work.
        let Some(typed_new) = typed::<R::Object>(Lean::of(new), &mut errors) else {
            return (errors, warnings);
        };
        match old {
            None => {
                R::validate(&typed_new, &mut errors);
                R::warnings(&typed_new, None, &mut warnings);
            }
            Some(old) if R::COMPARES_ONE_PART && new.get("spec") == old.get("spec") => {
                R::validate_update(&typed_new, &typed_new, &mut errors);
                R::warnings(&typed_new, Some(&typed_new), &mut warnings);
            }
            Some(old) => {
                if let Some(typed_old) = typed(Lean::of(old), &mut errors) {
                    R::validate_update(&typed_new, &typed_old, &mut errors);
                    R::warnings(&typed_new, Some(&typed_old), &mut warnings);
                }
            }
        }
        (errors, warnings)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        meta::validate_update(new, old, &mut errors);
        kube_finalizers::<R>(new, &mut errors);
        let old = if R::COMPARES_ONE_PART { Lean::without_spec(old) } else { Lean::of(old) };
        if let (Some(new), Some(old)) =
            (typed::<R::Object>(Lean::of(new), &mut errors), typed(old, &mut errors))
        {
            R::validate_status_update(&new, &old, &mut errors);
        }
        errors
    }

    fn validate_part_update(&self, part: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        meta::validate_update(new, old, &mut errors);
        kube_finalizers::<R>(new, &mut errors);
        R::validate_part_update(part, new, old, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Ok(object) = serde::Deserialize::deserialize(Lean::of(object)) {
            R::warnings(&object, None, &mut warnings);
        }
        warnings
    }

    fn selectable_fields(&self) -> &[&'static str] {
        R::SELECTABLE
    }

    fn selectable<'a>(&self, object: &'a Value, field: &str) -> Option<Cow<'a, str>> {
        R::SELECTABLE.contains(&field).then(|| R::selectable(object, field))
    }

    fn allows_create_on_update(&self) -> bool {
        R::CREATE_ON_UPDATE
    }

    fn allows_unconditional_update(&self) -> bool {
        R::UNCONDITIONAL_UPDATE
    }

    fn grace_period(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        R::grace_period(object, asked)
    }
}
