//! Why a configuration is not applied, in upstream's words.

use std::collections::BTreeMap;

use super::managed::Entry;
use super::set::Set;
use crate::status::{self, Cause, Details, Status};

/// Bytes of managers' names and paths that an answer names; what is more is counted.
const MAX_SHOWN: usize = 1 << 20;

/// Fields that another manager owns and that would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The manager as messages name it.
    manager: String,
    /// The fields.
    pub(super) lost: Set,
}

impl Conflict {
    /// All conflicts with one manager.
    pub(super) fn with(entry: &Entry, lost: Set) -> Conflict {
        Conflict { manager: entry.describe(), lost }
    }
}

/// The paths that are shown, with their managers.
fn shown(conflicts: &[Conflict]) -> Vec<(&str, Vec<String>)> {
    let mut room = MAX_SHOWN;
    let mut of = |conflict: &Conflict| {
        room = room.saturating_sub(conflict.manager.len());
        let mut paths = conflict.lost.paths(&mut room);
        // The name is said with each.
        paths.truncate(1 + MAX_SHOWN / (1 + conflict.manager.len()));
        paths
    };
    conflicts.iter().map(|conflict| (conflict.manager.as_str(), of(conflict))).collect()
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
        let causes = shown(&conflicts).into_iter().flat_map(|(manager, paths)| {
            paths.into_iter().map(move |field| Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: format!("conflict with {manager}"),
                field,
            })
        });
        let causes = causes.collect();
        Status {
            code: 409,
            reason: "Conflict",
            message,
            details: Some(Box::new(Details { causes, ..Details::default() })),
            continue_token: None,
            remaining_items: None,
        }
    }
}

fn message(conflicts: &[Conflict]) -> String {
    let count: usize = conflicts.iter().map(|conflict| conflict.lost.count()).sum();
    let shown = shown(conflicts);
    if let ([(manager, paths)], 1) = (shown.as_slice(), count) {
        let path = paths.first().map_or("", String::as_str);
        return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
    }
    let mut by_manager: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (manager, paths) in shown {
        by_manager.entry(manager).or_default().extend(paths);
    }
    let mut lines = Vec::new();
    for (manager, paths) in by_manager.into_iter().filter(|(_, paths)| !paths.is_empty()) {
        lines.push(format!("conflicts with {manager}:"));
        lines.extend(paths.into_iter().map(|path| format!("- {path}")));
    }
    format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
}
