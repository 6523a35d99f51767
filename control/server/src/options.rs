//! The options of each verb, read from the query (and for deletions from the body) and checked.

use carrack_api::status::{self, FieldError, FieldPath};
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

/// A refusal of list options, in upstream's words.
fn invalid(field: &str, error: impl FnOnce(&FieldPath) -> FieldError) -> ApiError {
    status::invalid("meta.k8s.io", "ListOptions", "", &[error(&FieldPath::root(field))]).into()
}

/// `resourceVersion`: `None` when absent. 400 when it is no revision.
pub(crate) fn revision(query: &Query) -> Result<Option<i64>, ApiError> {
    let Some(text) = query.non_empty("resourceVersion") else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(revision) if revision >= 0 => Ok(Some(revision)),
        _ => {
            Err(invalid("resourceVersion", |at| FieldError::invalid(at, text, "must be a resource version")))
        }
    }
}

/// What a list is to be consistent with.
fn consistency(query: &Query, limit: usize) -> Result<Consistency, ApiError> {
    let revision = revision(query)?;
    let continues = query.non_empty("continue").is_some();
    match (query.non_empty("resourceVersionMatch"), revision) {
        (Some(_), _) if continues => Err(invalid("resourceVersionMatch", |at| {
            FieldError::forbidden(at, "resourceVersionMatch is forbidden when continue is provided")
        })),
        (Some(_), None) => Err(invalid("resourceVersionMatch", |at| {
            FieldError::forbidden(at, "resourceVersionMatch is forbidden unless resourceVersion is provided")
        })),
        (Some("Exact"), Some(0)) => Err(invalid("resourceVersionMatch", |at| {
            FieldError::forbidden(at, "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"")
        })),
        (Some("Exact"), Some(revision)) => Ok(Consistency::Exact(revision)),
        (Some("NotOlderThan"), Some(0)) | (None, Some(0)) => Ok(Consistency::Any),
        (Some("NotOlderThan"), Some(revision)) => Ok(Consistency::NotOlderThan(revision)),
        (Some(other), Some(_)) => Err(invalid("resourceVersionMatch", |at| {
            FieldError::not_supported(at, other, &["Exact", "NotOlderThan"])
        })),
        (None, None) => Ok(Consistency::Latest),
        (None, Some(_)) if continues => {
            Err(ApiError::bad_request("specifying resource version is not allowed when using continue"))
        }
        // As upstream: a page of a given version is exactly that version, an unpaged list at least that.
        (None, Some(revision)) if limit > 0 => Ok(Consistency::Exact(revision)),
        (None, Some(revision)) => Ok(Consistency::NotOlderThan(revision)),
    }
}

impl ListOptions {
    /// Reads the options of a list or of a deletion of a collection.
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        let mut options = Self::selection(query)?;
        if query.flag("sendInitialEvents") {
            return Err(invalid("sendInitialEvents", |at| {
                FieldError::forbidden(at, "sendInitialEvents is forbidden for list")
            }));
        }
        options.consistency = consistency(query, options.limit)?;
        Ok(options)
    }

    /// What lists and watches read alike.
    fn selection(query: &Query) -> Result<Self, ApiError> {
        let limit = query.integer("limit")?.unwrap_or(0);
        let limit = usize::try_from(limit).map_err(|_| {
            invalid("limit", |at| FieldError::invalid(at, limit, "must be greater than or equal to 0"))
        })?;
        let timeout = query.integer("timeoutSeconds")?.filter(|seconds| *seconds > 0);
        Ok(ListOptions {
            label_selector: query.get("labelSelector").unwrap_or_default().to_owned(),
            field_selector: query.get("fieldSelector").unwrap_or_default().to_owned(),
            consistency: Consistency::Latest,
            limit,
            continue_token: query.non_empty("continue").map(str::to_owned),
            timeout_seconds: timeout.map(i64::unsigned_abs),
        })
    }
}

impl WatchOptions {
    /// Reads the options of a watch.
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        let list = ListOptions::selection(query)?;
        let revision = revision(query)?;
        let bookmarks = query.flag("allowWatchBookmarks");
        let matching = query.non_empty("resourceVersionMatch");
        let start = match (query.optional_flag("sendInitialEvents"), matching) {
            (Some(_), None) => {
                return Err(invalid("resourceVersionMatch", |at| {
                    FieldError::forbidden(
                        at,
                        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                    )
                }));
            }
            (Some(_), Some(other)) if other != "NotOlderThan" => {
                return Err(invalid("resourceVersionMatch", |at| {
                    FieldError::not_supported(at, other, &["NotOlderThan"])
                }));
            }
            (None, Some(_)) => {
                return Err(invalid("resourceVersionMatch", |at| {
                    FieldError::forbidden(
                        at,
                        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                    )
                }));
            }
            (Some(true), _) if bookmarks => WatchStart::StateThenBookmark(revision.unwrap_or(0)),
            // Nobody waits for the mark of the end: the present state is as new as any revision.
            (Some(true), _) => WatchStart::State,
            (Some(false), _) => revision.filter(|r| *r > 0).map_or(WatchStart::Now, WatchStart::After),
            (None, None) => revision.filter(|r| *r > 0).map_or(WatchStart::State, WatchStart::After),
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

impl WriteOptions {
    /// Reads the options; `kind` is the options' kind for messages, such as `CreateOptions`.
    pub(crate) fn parse(query: &Query, kind: &str) -> Result<Self, ApiError> {
        let field_validation = match query.non_empty("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                let path = FieldPath::root("fieldValidation");
                let error = FieldError::not_supported(&path, other, &["Ignore", "Strict", "Warn"]);
                return Err(status::invalid("meta.k8s.io", kind, "", &[error]).into());
            }
        };
        let dry_run = dry_run(query.all("dryRun"), kind)?;
        Ok(WriteOptions { dry_run, field_validation })
    }
}

/// Whether nothing is to be stored; `All` is the only dry run there is.
fn dry_run<'a>(values: impl Iterator<Item = &'a str>, kind: &str) -> Result<bool, ApiError> {
    let mut dry = false;
    for value in values.filter(|v| !v.is_empty()) {
        if value != "All" {
            let error = FieldError::not_supported(&FieldPath::root("dryRun"), value, &["All"]);
            return Err(status::invalid("meta.k8s.io", kind, "", &[error]).into());
        }
        dry = true;
    }
    Ok(dry)
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
    /// The UID that the object must have.
    pub(crate) uid: Option<String>,
    /// The resourceVersion that the object must have.
    pub(crate) resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads the options from the body where there is one, otherwise from the query.
    pub(crate) fn parse(query: &Query, body: Option<&Value>) -> Result<Self, ApiError> {
        let text = |pointer: &str| body.and_then(|b| b.pointer(pointer)).and_then(Value::as_str);
        let of_query = |key: &str| query.non_empty(key).filter(|_| body.is_none());
        let from_body = body.and_then(|b| b.get("dryRun")).and_then(Value::as_array);
        let dry_values = from_body.into_iter().flatten().filter_map(Value::as_str).chain(query.all("dryRun"));
        let grace = match body {
            Some(body) => body.get("gracePeriodSeconds").and_then(Value::as_i64),
            None => query.integer("gracePeriodSeconds")?,
        };
        let orphan = match body {
            Some(body) => body.get("orphanDependents").and_then(Value::as_bool),
            None => query.optional_flag("orphanDependents"),
        };
        let policy = text("/propagationPolicy").or_else(|| of_query("propagationPolicy"));
        Ok(DeleteOptions {
            dry_run: dry_run(dry_values, "DeleteOptions")?,
            grace_seconds: grace.map(check_grace).transpose()?,
            propagation: propagation(policy, orphan)?,
            uid: text("/preconditions/uid").map(str::to_owned),
            resource_version: text("/preconditions/resourceVersion").map(str::to_owned),
        })
    }
}

/// A refusal of delete options.
fn invalid_delete(field: &str, error: impl FnOnce(&FieldPath) -> FieldError) -> ApiError {
    status::invalid("meta.k8s.io", "DeleteOptions", "", &[error(&FieldPath::root(field))]).into()
}

/// Grace is not negative.
fn check_grace(seconds: i64) -> Result<i64, ApiError> {
    if seconds < 0 {
        return Err(invalid_delete("gracePeriodSeconds", |at| {
            FieldError::invalid(at, seconds, "must be greater than or equal to 0")
        }));
    }
    Ok(seconds)
}

/// The propagation from its name, or from the older switch.
fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, ApiError> {
    let supported = ["Background", "Foreground", "Orphan"];
    match (policy, orphan) {
        (Some(policy), Some(_)) => Err(invalid_delete("propagationPolicy", |at| {
            FieldError::invalid(at, policy, "orphanDependents and deletionPropagation cannot be both set")
        })),
        (Some("Orphan"), _) => Ok(Some(Propagation::Orphan)),
        (Some("Background"), _) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), _) => Ok(Some(Propagation::Foreground)),
        (Some(other), _) => {
            Err(invalid_delete("propagationPolicy", |at| FieldError::not_supported(at, other, &supported)))
        }
        (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (None, Some(false)) => Ok(Some(Propagation::Background)),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list(query: &str) -> Result<Consistency, u16> {
        ListOptions::parse(&Query::parse(query).unwrap()).map(|o| o.consistency).map_err(|e| e.code)
    }

    #[test]
    fn consistency_of_lists() {
        let cases = [
            ("", Ok(Consistency::Latest)),
            ("resourceVersion=0", Ok(Consistency::Any)),
            ("resourceVersion=5", Ok(Consistency::NotOlderThan(5))),
            ("resourceVersion=5&limit=10", Ok(Consistency::Exact(5))),
            ("resourceVersion=5&resourceVersionMatch=Exact", Ok(Consistency::Exact(5))),
            ("resourceVersion=5&limit=3&resourceVersionMatch=NotOlderThan", Ok(Consistency::NotOlderThan(5))),
            ("resourceVersion=0&resourceVersionMatch=Exact", Err(422)),
            ("resourceVersionMatch=Exact", Err(422)),
            ("resourceVersion=5&resourceVersionMatch=Newer", Err(422)),
            ("resourceVersion=5&continue=x", Err(400)),
            ("resourceVersion=five", Err(422)),
            ("limit=-1", Err(422)),
        ];
        for (query, expected) in cases {
            assert_eq!(list(query), expected, "{query:?}");
        }
    }

    fn watch(query: &str) -> Result<WatchStart, u16> {
        WatchOptions::parse(&Query::parse(query).unwrap()).map(|o| o.start).map_err(|e| e.code)
    }

    #[test]
    fn starts_of_watches() {
        let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        let cases = [
            ("", Ok(WatchStart::State)),
            ("resourceVersion=0", Ok(WatchStart::State)),
            ("resourceVersion=7", Ok(WatchStart::After(7))),
            ("sendInitialEvents=true", Err(422)),
            ("resourceVersionMatch=NotOlderThan", Err(422)),
            (initial, Ok(WatchStart::State)),
            (&format!("{initial}&allowWatchBookmarks=true"), Ok(WatchStart::StateThenBookmark(0))),
            (
                &format!("{initial}&allowWatchBookmarks=1&resourceVersion=9"),
                Ok(WatchStart::StateThenBookmark(9)),
            ),
            ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan", Ok(WatchStart::Now)),
        ];
        for (query, expected) in cases {
            assert_eq!(watch(query), expected, "{query:?}");
        }
    }

    #[test]
    fn delete_options_from_body_and_query() {
        let body = json!({"gracePeriodSeconds": 3, "propagationPolicy": "Foreground", "preconditions": {"uid": "u"}});
        let options = DeleteOptions::parse(&Query::default(), Some(&body)).unwrap();
        assert_eq!(options.grace_seconds, Some(3));
        assert_eq!(options.propagation, Some(Propagation::Foreground));
        assert_eq!(options.uid.as_deref(), Some("u"));
        let query = Query::parse("gracePeriodSeconds=0&dryRun=All&orphanDependents=true").unwrap();
        let options = DeleteOptions::parse(&query, None).unwrap();
        assert_eq!((options.grace_seconds, options.dry_run), (Some(0), true));
        assert_eq!(options.propagation, Some(Propagation::Orphan));
        for wrong in ["gracePeriodSeconds=-1", "dryRun=Some", "propagationPolicy=Later"] {
            let error = DeleteOptions::parse(&Query::parse(wrong).unwrap(), None).unwrap_err();
            assert_eq!(error.code, 422, "{wrong}");
        }
    }
}
