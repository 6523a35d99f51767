//! The options of each verb, read from the query (and for deletions from the body) and checked.

use carrack_api::status::{self, FieldError, FieldPath, go_quoted, is_hidden};
use serde_json::Value;

use crate::ApiError;
use crate::query::Query;

/// What `resourceVersion` and `resourceVersionMatch` of a list ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// The newest state.
    Latest,
    /// Any state this server has.
    Any,
    /// A state at least as new as this revision.
    NotOlderThan(i64),
    /// The state at exactly this revision.
    Exact(i64),
}

/// Options of lists and watches.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) consistency: Consistency,
    /// Most items on a page; 0 for all.
    pub(crate) limit: usize,
    pub(crate) continue_token: Option<String>,
    /// Seconds after which a watch ends; `None` lets the server choose.
    pub(crate) timeout_seconds: Option<u64>,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchStart {
    /// With the present objects as ADDED, then what happens.
    State,
    /// With the present objects as ADDED, a bookmark that says so, then what happens. The state is at least as
    /// new as the revision (0: any).
    StateThenBookmark(i64),
    /// With what happens from now on.
    Now,
    /// With what happened after this revision.
    After(i64),
}

/// Options of a watch beside the selectors.
#[derive(Clone, Debug)]
pub(crate) struct WatchOptions {
    pub(crate) list: ListOptions,
    pub(crate) start: WatchStart,
    pub(crate) bookmarks: bool,
}

/// A revision from its text. What no number holds is one that nobody has reached.
fn parse_revision(text: &str) -> Result<i64, FieldError> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(revision) => Ok(i64::try_from(revision).unwrap_or(i64::MAX)),
        Err(_) => {
            let what = if is_number { "value out of range" } else { "invalid syntax" };
            let why = format!("strconv.ParseUint: parsing {}: {what}", go_quoted(text));
            Err(FieldError::invalid(&FieldPath::root("resourceVersion"), text, why))
        }
    }
}

/// `resourceVersion` of a read of one object or of a watch: `None` when absent. Upstream refuses what is no revision with 422,
/// without details.
pub(crate) fn revision(query: &Query) -> Result<Option<i64>, ApiError> {
    let refuse = |error: FieldError| ApiError::new(422, "Invalid", error.to_string());
    query.non_empty("resourceVersion").map(|text| parse_revision(text).map_err(refuse)).transpose()
}

/// What a list is to be consistent with; its options fit together.
fn consistency(query: &Query, limit: usize) -> Result<Consistency, ApiError> {
    let Some(text) = query.non_empty("resourceVersion") else { return Ok(Consistency::Latest) };
    if query.non_empty("continue").is_some() {
        // The token says what it continues.
        return match text {
            "0" => Ok(Consistency::Any),
            _ => Err(ApiError::bad_request("specifying resource version is not allowed when using continue")),
        };
    }
    let refuse = |error: FieldError| ApiError::bad_request(format!("invalid resource version: {error}"));
    let revision = parse_revision(text).map_err(refuse)?;
    Ok(match query.non_empty("resourceVersionMatch") {
        Some("Exact") => Consistency::Exact(revision),
        _ if revision == 0 => Consistency::Any,
        // As upstream: a page of a given version is exactly that version, an unpaged list at least that.
        None if limit > 0 => Consistency::Exact(revision),
        _ => Consistency::NotOlderThan(revision),
    })
}

/// What a list's options have to fulfil. Upstream: `ValidateListOptions`.
fn list_errors(query: &Query) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = FieldPath::root("resourceVersionMatch");
    if let Some(matching) = query.non_empty("resourceVersionMatch") {
        let revision = query.get("resourceVersion").unwrap_or_default();
        if revision.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(&at, why));
        }
        if query.non_empty("continue").is_some() {
            errors.push(FieldError::forbidden(&at, NOT_WITH_CONTINUE));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            let supported = ["Exact", "NotOlderThan", ""];
            errors.push(FieldError::not_supported_in_order(&at, matching, &supported));
        }
        if matching == "Exact" && revision == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(&at, why));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        let at = FieldPath::root("sendInitialEvents");
        errors.push(FieldError::forbidden(&at, "sendInitialEvents is forbidden for list"));
    }
    errors
}

const NOT_WITH_CONTINUE: &str = "resourceVersionMatch is forbidden when continue is provided";

/// What a watch's options have to fulfil. Upstream: `validateWatchOptions`.
fn watch_errors(query: &Query) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = FieldPath::root("resourceVersionMatch");
    let matching = query.get("resourceVersionMatch").unwrap_or_default();
    let initial = query.get("sendInitialEvents").is_some();
    if initial && matching != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(&at, why));
    }
    if matching.is_empty() {
        return errors;
    }
    if !initial {
        let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        errors.push(FieldError::forbidden(&at, why));
    }
    if matching != "NotOlderThan" {
        errors.push(FieldError::not_supported(&at, matching, &["NotOlderThan"]));
    }
    if query.non_empty("continue").is_some() {
        errors.push(FieldError::forbidden(&at, NOT_WITH_CONTINUE));
    }
    errors
}

/// 422 for options of this kind, if anything is wrong with them.
fn check(kind: &str, errors: &[FieldError]) -> Result<(), ApiError> {
    if errors.is_empty() { Ok(()) } else { Err(status::invalid("meta.k8s.io", kind, "", errors).into()) }
}

impl ListOptions {
    /// Reads the options of a list or of a deletion of a collection.
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        let mut options = Self::selection(query)?;
        check("ListOptions", &list_errors(query))?;
        options.consistency = consistency(query, options.limit)?;
        Ok(options)
    }

    /// What lists and watches read alike.
    fn selection(query: &Query) -> Result<Self, ApiError> {
        let limit = query.integer("limit")?.unwrap_or(0);
        let timeout = query.integer("timeoutSeconds")?.filter(|seconds| *seconds > 0);
        Ok(ListOptions {
            label_selector: query.get("labelSelector").unwrap_or_default().to_owned(),
            field_selector: query.get("fieldSelector").unwrap_or_default().to_owned(),
            consistency: Consistency::Latest,
            // Less than nothing is no limit.
            limit: usize::try_from(limit).unwrap_or(0),
            continue_token: query.non_empty("continue").map(str::to_owned),
            timeout_seconds: timeout.map(i64::unsigned_abs),
        })
    }
}

impl WatchOptions {
    /// Reads the options of a watch.
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        let list = ListOptions::selection(query)?;
        check("ListOptions", &watch_errors(query))?;
        let revision = revision(query)?.unwrap_or(0);
        let bookmarks = query.flag("allowWatchBookmarks");
        // Who begins with the state as of old is told when it is complete, too.
        let initial = query.optional_flag("sendInitialEvents").or((revision == 0).then_some(true));
        let start = match initial {
            Some(true) if bookmarks => WatchStart::StateThenBookmark(revision),
            // Nobody waits for the mark of the end: the present state is as new as any revision.
            Some(true) => WatchStart::State,
            Some(false) if revision == 0 => WatchStart::Now,
            _ => WatchStart::After(revision),
        };
        Ok(WatchOptions { list, start, bookmarks })
    }
}

/// What is done about unknown and repeated fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Refuse.
    Strict,
    /// Drop them and say so.
    Warn,
    /// Drop them.
    Ignore,
}

/// Options of create, update and patch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_validation: FieldValidation,
}

/// The kinds of options that writes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    Create,
    Update,
    Patch,
    /// A patch that is a configuration, whose manager has to be named.
    Apply,
}

impl WriteOptions {
    /// Reads and checks the options. Upstream: `ValidateCreateOptions`, `ValidateUpdateOptions`, `ValidatePatchOptions`.
    pub(crate) fn parse(query: &Query, writing: Writing) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let manager = query.get("fieldManager").unwrap_or_default();
        match writing {
            Writing::Patch if query.get("force").is_some() => {
                let why = "may not be specified for non-apply patch";
                errors.push(FieldError::forbidden(&FieldPath::root("force"), why));
            }
            Writing::Apply if manager.is_empty() => {
                let why = "is required for apply patch";
                errors.push(FieldError::required(&FieldPath::root("fieldManager"), why));
            }
            _ => {}
        }
        check_manager(manager, &mut errors);
        let values: Vec<&str> = query.all("dryRun").collect();
        let dry_run = dry_run(&values, &mut errors);
        let field_validation = match query.get("fieldValidation") {
            None | Some("" | "Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                let path = FieldPath::root("fieldValidation");
                errors.push(FieldError::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]));
                FieldValidation::Warn
            }
        };
        let kind = match writing {
            Writing::Create => "CreateOptions",
            Writing::Update => "UpdateOptions",
            Writing::Patch | Writing::Apply => "PatchOptions",
        };
        check(kind, &errors)?;
        Ok(WriteOptions { dry_run, field_validation })
    }
}

/// Longest name of a manager, in bytes; upstream's figure.
pub(crate) const LONGEST_MANAGER: usize = 128;

/// Names of managers are short and can be printed.
fn check_manager(name: &str, errors: &mut Vec<FieldError>) {
    let at = FieldPath::root("fieldManager");
    if name.len() > LONGEST_MANAGER {
        errors.push(FieldError::too_long(&at, LONGEST_MANAGER));
    }
    for (position, letter) in name.char_indices().filter(|(_, letter)| is_hidden(*letter)) {
        let why = format!("invalid character U+{:04X} (at position {position})", u32::from(letter));
        errors.push(FieldError::invalid(&at, name, why));
    }
}

/// Whether nothing is to be stored; `All` is the only dry run there is.
fn dry_run(values: &[&str], errors: &mut Vec<FieldError>) -> bool {
    if values.iter().any(|value| *value != "All") {
        let found = Value::from(values);
        errors.push(FieldError::not_supported(&FieldPath::root("dryRun"), found, &["All"]));
    }
    !values.is_empty()
}

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They lose the reference and stay.
    Orphan,
    /// They go afterwards.
    Background,
    /// They go first.
    Foreground,
}

/// Options of a deletion.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    /// Seconds of grace asked for.
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    /// Whether `orphanDependents` says that dependents go, too.
    pub(crate) cascades: bool,
    /// The UID that the object must have.
    pub(crate) uid: Option<String>,
    /// The resourceVersion that the object must have.
    pub(crate) resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads the options: from the body where there is one, which then says everything, otherwise from the query.
    /// Upstream: `ValidateDeleteOptions`.
    pub(crate) fn parse(query: &Query, body: Option<&Value>) -> Result<Self, ApiError> {
        let text = |pointer: &str| body.and_then(|b| b.pointer(pointer)).and_then(Value::as_str);
        let dry_values: Vec<&str> = match body {
            Some(body) => {
                let values = body.get("dryRun").and_then(Value::as_array);
                values.into_iter().flatten().filter_map(Value::as_str).collect()
            }
            None => query.all("dryRun").collect(),
        };
        let grace = match body {
            Some(body) => body.get("gracePeriodSeconds").and_then(Value::as_i64),
            None => query.integer("gracePeriodSeconds")?,
        };
        let orphan = match body {
            Some(body) => body.get("orphanDependents").and_then(Value::as_bool),
            None => query.optional_flag("orphanDependents"),
        };
        let policy = match body {
            Some(_) => text("/propagationPolicy"),
            None => query.get("propagationPolicy"),
        };
        let mut errors = Vec::new();
        let propagation = propagation(policy, orphan, &mut errors);
        let dry_run = dry_run(&dry_values, &mut errors);
        check("DeleteOptions", &errors)?;
        Ok(DeleteOptions {
            dry_run,
            // As upstream, less than nothing is a second.
            grace_seconds: grace.map(|seconds| if seconds < 0 { 1 } else { seconds }),
            propagation,
            cascades: orphan == Some(false),
            uid: text("/preconditions/uid").map(str::to_owned),
            resource_version: text("/preconditions/resourceVersion").map(str::to_owned),
        })
    }
}

/// The propagation from its name, or from the older switch.
fn propagation(
    policy: Option<&str>,
    orphan: Option<bool>,
    errors: &mut Vec<FieldError>,
) -> Option<Propagation> {
    let at = FieldPath::root("propagationPolicy");
    if let (Some(policy), Some(_)) = (policy, orphan) {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(FieldError::invalid(&at, policy, why));
    }
    match (policy, orphan) {
        (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
        (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
        (Some("Foreground"), _) => Some(Propagation::Foreground),
        (Some(other), _) => {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            errors.push(FieldError::not_supported_in_order(&at, other, &supported));
            None
        }
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;
