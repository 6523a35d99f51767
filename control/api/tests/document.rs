//! `docs/api.md` lists what is served, as the table of kinds has it. `UPDATE_GOLDEN=1` writes it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails")]

use std::fmt::Write;
use std::path::Path;

use carrack_api::{Resource, Scope, resources};

/// What follows is made from the table of kinds.
const MARK: &str =
    "<!-- From here on made by `UPDATE_GOLDEN=1 cargo test -p carrack-api --test document`. -->\n";

/// Groups and versions in the order of discovery, each with its rows.
fn versions() -> Vec<(&'static str, Vec<&'static Resource>)> {
    let mut versions: Vec<(&str, Vec<&Resource>)> = Vec::new();
    for row in resources() {
        match versions.iter_mut().find(|(version, _)| *version == row.api_version) {
            Some((_, rows)) => rows.push(row),
            None => versions.push((row.api_version, vec![row])),
        }
    }
    versions
}

fn verbs(verbs: &[carrack_api::Verb]) -> String {
    const ALL: usize = 8;
    if verbs.len() == ALL {
        return "all".to_owned();
    }
    verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ")
}

fn line(row: &Resource) -> String {
    let below: Vec<String> =
        row.subresources().iter().map(|part| format!("{} ({})", part.name, verbs(part.verbs))).collect();
    let scope = if row.scope == Scope::Namespaced { "namespace" } else { "cluster" };
    let stored = match (row.storage_prefix.is_empty(), row.is_storage_version()) {
        (true, _) => "answered, not stored".to_owned(),
        (false, true) => "as it is".to_owned(),
        (false, false) => format!("as {}/{}", row.storage.group, row.storage.version),
    };
    format!(
        "| {} | {} | {} | {scope} | {} | {} | {stored} |",
        row.kind,
        row.plural,
        row.short_names().join(", "),
        verbs(row.verbs),
        below.join(", ")
    )
}

fn tables() -> String {
    let mut out = String::new();
    for (version, rows) in versions() {
        writeln!(out, "\n### {version}\n").unwrap();
        writeln!(out, "| kind | in paths | short | lives in | verbs | below an object | stored |").unwrap();
        writeln!(out, "|---|---|---|---|---|---|---|").unwrap();
        for row in rows {
            writeln!(out, "{}", line(row)).unwrap();
        }
    }
    out
}

#[test]
fn the_document_lists_what_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (written, made) = text.split_once(MARK).expect("docs/api.md has lost its mark");
    let fresh = tables();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{written}{MARK}{fresh}")).unwrap();
    } else {
        assert!(made == fresh, "docs/api.md is out of date: run the test with UPDATE_GOLDEN=1");
    }
}
