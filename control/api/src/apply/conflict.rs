//! Why a configuration is not applied, in upstream's words.

use super::managed::Entry;
use super::set::Set;
use crate::status::{self, Cause, Details, Status};

/// A field that another manager owns and that would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The manager as messages name it.
    pub(super) manager: String,
    /// The field's path.
    pub(super) path: String,
}

impl Conflict {
    /// All conflicts with one manager.
    pub(super) fn all(entry: &Entry, lost: &Set) -> Vec<Conflict> {
        let manager = entry.describe();
        lost.paths().into_iter().map(|path| Conflict { manager: manager.clone(), path }).collect()
    }
}

/// Why a configuration is not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration carries `managedFields`: 400.
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// Fields would change that others own: 409.
    #[error("{}", message(.0))]
    Conflicts(Vec<Conflict>),
}

impl ApplyError {
    /// The refusal.
    pub fn into_status(self) -> Status {
        let message = self.to_string();
        let ApplyError::Conflicts(conflicts) = self else { return status::bad_request(message) };
        let cause = |conflict: Conflict| Cause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with {}", conflict.manager),
            field: conflict.path,
        };
        Status {
            code: 409,
            reason: "Conflict",
            message,
            details: Some(Box::new(Details {
                causes: conflicts.into_iter().map(cause).collect(),
                ..Details::default()
            })),
            continue_token: None,
            remaining_items: None,
        }
    }
}

fn message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.path);
    }
    let mut managers: Vec<&str> = conflicts.iter().map(|conflict| conflict.manager.as_str()).collect();
    managers.sort_unstable();
    managers.dedup();
    let mut lines = Vec::new();
    for manager in managers {
        lines.push(format!("conflicts with {manager}:"));
        let of = conflicts.iter().filter(|conflict| conflict.manager == manager);
        lines.extend(of.map(|conflict| format!("- {}", conflict.path)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
