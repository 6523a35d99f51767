//! PriorityLevelConfigurations.

use k8s_openapi::api::flowcontrol::v1 as flow;

use super::{NONE, condition_types, mandatory};
use crate::kinds::prelude::*;

/// The row of prioritylevelconfigurations.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    subresources: &[status(gvk("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Type", "flowcontrol.v1.PriorityLevelConfigurationSpec#type"),
            Column::text(
                "NominalConcurrencyShares",
                "flowcontrol.v1.LimitedPriorityLevelConfiguration#nominalConcurrencyShares",
            ),
            Column::text("Queues", "flowcontrol.v1.QueuingConfiguration#queues"),
            Column::text("HandSize", "flowcontrol.v1.QueuingConfiguration#handSize"),
            Column::text("QueueLengthLimit", "flowcontrol.v1.QueuingConfiguration#queueLengthLimit"),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "flowcontrol.apiserver.k8s.io" / "v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfiguration",
        "prioritylevelconfigurations",
        "flowcontrol",
        flow::PriorityLevelConfiguration,
        LevelRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let number = |pointer: &str| match object.pointer(pointer).and_then(Value::as_i64) {
        Some(number) => number.into(),
        None => Value::from(NONE),
    };
    vec![
        meta::name(object).into(),
        read::text(object, "/spec/type").into(),
        number("/spec/limited/nominalConcurrencyShares"),
        number("/spec/limited/limitResponse/queuing/queues"),
        number("/spec/limited/limitResponse/queuing/handSize"),
        number("/spec/limited/limitResponse/queuing/queueLengthLimit"),
        age(object, now),
    ]
}

const MAX_QUEUES: i32 = 10_000_000;
/// Bits that dealing a hand of queues may use up of a hash.
const MAX_ENTROPY_BITS: f64 = 60.0;

/// What is true of prioritylevelconfigurations.
pub(in crate::kinds) struct LevelRules;

impl Rules for LevelRules {
    type Object = flow::PriorityLevelConfiguration;

    const SCOPE: Scope = Scope::Cluster;
    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;

    fn default(level: &mut Value) {
        let Some(spec) = spec_of(level) else { return };
        if let Some(exempt) = object(spec, "exempt") {
            set(exempt, "nominalConcurrencyShares", 0);
            set(exempt, "lendablePercent", 0);
        }
        let Some(limited) = object(spec, "limited") else { return };
        set(limited, "nominalConcurrencyShares", 30);
        set(limited, "lendablePercent", 0);
        if let Some(queuing) = object(limited, "limitResponse").and_then(|r| object(r, "queuing")) {
            for (field, number) in [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)] {
                defaults::set_nonzero(queuing, field, number);
            }
        }
    }

    fn validate(level: &Self::Object, errors: &mut Errors) {
        let empty = flow::PriorityLevelConfigurationSpec::default();
        let (spec, path) = (level.spec.as_ref().unwrap_or(&empty), spec_path());
        let name = level.metadata.name.as_deref().unwrap_or_default();
        if (name == "exempt") != (spec.type_ == "Exempt") {
            let why = "type must be 'Exempt' if and only if name is 'exempt'";
            errors.push(FieldError::invalid(&path.child("type"), spec.type_.as_str(), why));
        }
        match spec.type_.as_str() {
            "Exempt" => {
                if spec.limited.is_some() {
                    let why = "must be nil if the type is not Limited";
                    errors.push(FieldError::forbidden(&path.child("limited"), why));
                }
                if let Some(exempt) = &spec.exempt {
                    let at = path.child("exempt");
                    shares(exempt.nominal_concurrency_shares, exempt.lendable_percent, &at, errors);
                }
            }
            "Limited" => {
                if spec.exempt.is_some() {
                    let why = "must be nil if the type is Limited";
                    errors.push(FieldError::forbidden(&path.child("exempt"), why));
                }
                match &spec.limited {
                    None => {
                        let why = "must not be empty when type is Limited";
                        errors.push(FieldError::required(&path.child("limited"), why));
                    }
                    Some(limited) => limited_level(limited, &path.child("limited"), errors),
                }
            }
            other => {
                errors.push(FieldError::not_supported(&path.child("type"), other, &["Exempt", "Limited"]));
            }
        }
        fixed(name, spec, errors);
    }

    fn validate_status_update(new: &Self::Object, _old: &Self::Object, errors: &mut Errors) {
        let conditions = new.status.as_ref().map_or(&[][..], |s| validate::list(&s.conditions));
        condition_types(conditions.iter().map(|c| validate::text(&c.type_)), errors);
    }
}

/// What every server relies on stays as it is; administrators may change how much `exempt` lends.
fn fixed(name: &str, spec: &flow::PriorityLevelConfigurationSpec, errors: &mut Errors) {
    let fixed = mandatory::typed::<flow::PriorityLevelConfigurationSpec>(mandatory::priority_level(name));
    let Some(fixed) = fixed else { return };
    let (is_same, what) = match name {
        "exempt" => (
            (&spec.type_, &spec.limited) == (&fixed.type_, &fixed.limited),
            "except the 'spec.exempt' field must equal",
        ),
        _ => (*spec == fixed, "must equal"),
    };
    if !is_same {
        let why = format!("spec of '{name}' {what} the fixed value");
        errors.push(FieldError::invalid(&spec_path(), validate::shown(spec), why));
    }
}

fn shares(shares: Option<i32>, lendable: Option<i32>, path: &FieldPath, errors: &mut Errors) {
    if let Some(number) = shares.filter(|number| *number < 0) {
        let at = path.child("nominalConcurrencyShares");
        errors.push(FieldError::invalid(&at, number, "must be a non-negative integer"));
    }
    if let Some(percent) = lendable.filter(|percent| !(0..=100).contains(percent)) {
        let at = path.child("lendablePercent");
        errors.push(FieldError::invalid(&at, percent, "must be between 0 and 100, inclusive"));
    }
}

fn limited_level(limited: &flow::LimitedPriorityLevelConfiguration, path: &FieldPath, errors: &mut Errors) {
    shares(limited.nominal_concurrency_shares, limited.lendable_percent, path, errors);
    if let Some(percent) = limited.borrowing_limit_percent.filter(|percent| *percent < 0) {
        let at = path.child("borrowingLimitPercent");
        errors.push(FieldError::invalid(&at, percent, "if specified, must be a non-negative integer"));
    }
    let empty = flow::LimitResponse::default();
    let response = limited.limit_response.as_ref().unwrap_or(&empty);
    let at = path.child("limitResponse");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", Some(_)) => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(FieldError::forbidden(&at.child("queuing"), why));
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(FieldError::required(&at.child("queuing"), why));
        }
        ("Queue", Some(queuing)) => queues(queuing, &at.child("queuing"), errors),
        (other, _) => {
            errors.push(FieldError::not_supported(&at.child("type"), other, &["Queue", "Reject"]));
        }
    }
}

fn queues(queuing: &flow::QueuingConfiguration, path: &FieldPath, errors: &mut Errors) {
    let fields = [
        ("queueLengthLimit", queuing.queue_length_limit.unwrap_or_default()),
        ("queues", queuing.queues.unwrap_or_default()),
        ("handSize", queuing.hand_size.unwrap_or_default()),
    ];
    for (field, number) in fields {
        if number <= 0 {
            errors.push(FieldError::invalid(&path.child(field), number, "must be positive"));
        }
    }
    let (queues, hand) = (fields[1].1, fields[2].1);
    if queues > MAX_QUEUES {
        let why = format!("must not be greater than {MAX_QUEUES}");
        errors.push(FieldError::invalid(&path.child("queues"), queues, why));
    }
    if queues > 0 && hand > queues {
        let why = format!("should not be greater than queues ({queues})");
        errors.push(FieldError::invalid(&path.child("handSize"), hand, why));
    } else if queues > 0 && hand > 0 {
        let bits: f64 = (0..hand.min(64)).map(|drawn| f64::from(queues - drawn).log2()).sum();
        if hand > 64 || bits.ceil() > MAX_ENTROPY_BITS {
            let why = format!(
                "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_ENTROPY_BITS}"
            );
            errors.push(FieldError::invalid(&path.child("handSize"), hand, why));
        }
    }
}
