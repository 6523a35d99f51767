//! What the options of each verb come to, and the words of their refusals.

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
        ("resourceVersion=five", Err(400)),
        ("resourceVersion=five&resourceVersionMatch=Newer", Err(422)),
        ("resourceVersion=99999999999999999999", Err(400)),
        ("resourceVersion=18446744073709551615", Ok(Consistency::NotOlderThan(i64::MAX))),
        ("resourceVersion=0&continue=x", Ok(Consistency::Any)),
        ("sendInitialEvents=false", Err(422)),
        ("limit=-1&resourceVersion=5", Ok(Consistency::NotOlderThan(5))),
        ("limit=x", Err(400)),
    ];
    for (query, expected) in cases {
        assert_eq!(list(query), expected, "{query:?}");
    }
}

fn words<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    result.unwrap_err().message.clone()
}

#[test]
fn refusals_have_upstreams_words() {
    let list = |query: &str| words(ListOptions::parse(&Query::parse(query).unwrap()));
    assert_eq!(
        list("resourceVersion=x"),
        "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax"
    );
    assert_eq!(list("limit=x"), "strconv.ParseInt: parsing \"x\": invalid syntax");
    assert_eq!(
        list("resourceVersionMatch=New&continue=a"),
        "ListOptions.meta.k8s.io \"\" is invalid: [resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided, resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided, resourceVersionMatch: Unsupported value: \"New\": supported values: \"Exact\", \"NotOlderThan\", \"\"]"
    );
    let watch = |query: &str| words(WatchOptions::parse(&Query::parse(query).unwrap()));
    assert_eq!(
        watch("sendInitialEvents=1&resourceVersionMatch=Exact"),
        "ListOptions.meta.k8s.io \"\" is invalid: [resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]"
    );
    assert_eq!(
        watch("resourceVersion=x"),
        "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax"
    );
    let write = |query: &str, writing| words(WriteOptions::parse(&Query::parse(query).unwrap(), writing));
    assert_eq!(
        write("dryRun=All&dryRun=&fieldManager=a%07&fieldValidation=Not", Writing::Update),
        "UpdateOptions.meta.k8s.io \"\" is invalid: [fieldManager: Invalid value: \"a\\a\": invalid character U+0007 (at position 1), dryRun: Unsupported value: [\"All\",\"\"]: supported values: \"All\", fieldValidation: Unsupported value: \"Not\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"]"
    );
    assert!(write("force=false", Writing::Patch).ends_with("may not be specified for non-apply patch"));
    assert!(write("force=true", Writing::Apply).ends_with("is required for apply patch"));
    let delete = |query: &str| words(DeleteOptions::parse(&Query::parse(query).unwrap(), None));
    assert_eq!(
        delete("propagationPolicy=Later&orphanDependents=true"),
        "DeleteOptions.meta.k8s.io \"\" is invalid: [propagationPolicy: Invalid value: \"Later\": orphanDependents and deletionPropagation cannot be both set, propagationPolicy: Unsupported value: \"Later\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"]"
    );
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
        ("resourceVersion=0&allowWatchBookmarks=1", Ok(WatchStart::StateThenBookmark(0))),
        ("allowWatchBookmarks=1", Ok(WatchStart::StateThenBookmark(0))),
        ("resourceVersion=7&allowWatchBookmarks=1", Ok(WatchStart::After(7))),
        ("resourceVersion=7", Ok(WatchStart::After(7))),
        ("sendInitialEvents=true", Err(422)),
        ("resourceVersionMatch=NotOlderThan", Err(422)),
        (initial, Ok(WatchStart::State)),
        (&format!("{initial}&allowWatchBookmarks=true"), Ok(WatchStart::StateThenBookmark(0))),
        (&format!("{initial}&allowWatchBookmarks=1&resourceVersion=9"), Ok(WatchStart::StateThenBookmark(9))),
        ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan", Ok(WatchStart::Now)),
    ];
    for (query, expected) in cases {
        assert_eq!(watch(query), expected, "{query:?}");
    }
}

#[test]
fn delete_options_from_body_and_query() {
    let body =
        json!({"gracePeriodSeconds": 3, "propagationPolicy": "Foreground", "preconditions": {"uid": "u"}});
    let options = DeleteOptions::parse(&Query::default(), Some(&body)).unwrap();
    assert_eq!(options.grace_seconds, Some(3));
    assert_eq!(options.propagation, Some(Propagation::Foreground));
    assert_eq!(options.uid.as_deref(), Some("u"));
    let query = Query::parse("gracePeriodSeconds=0&dryRun=All&orphanDependents=true").unwrap();
    let options = DeleteOptions::parse(&query, None).unwrap();
    assert_eq!((options.grace_seconds, options.dry_run), (Some(0), true));
    assert_eq!(options.propagation, Some(Propagation::Orphan));
    assert!(!options.cascades);
    // A body says everything.
    let options = DeleteOptions::parse(&query, Some(&json!({"gracePeriodSeconds": -7}))).unwrap();
    assert_eq!((options.grace_seconds, options.dry_run, options.propagation), (Some(1), false, None));
    for wrong in ["dryRun=", "dryRun=Some", "propagationPolicy=Later"] {
        let error = DeleteOptions::parse(&Query::parse(wrong).unwrap(), None).unwrap_err();
        assert_eq!(error.code, 422, "{wrong}");
    }
}
