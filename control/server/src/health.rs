//! `/healthz`, `/livez`, `/readyz`: named checks, each of which can be asked for alone.

use std::collections::BTreeMap;

use http::Response;
use parking_lot::RwLock;

use crate::query::Query;
use crate::server::Inner;
use crate::slis::Slis;
use crate::{ResponseBody, respond};

/// Says how something is.
pub(crate) type Asked = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What parts of the process reported, and what is asked anew each time.
#[derive(Default)]
pub(crate) struct Health {
    reported: RwLock<BTreeMap<String, Result<(), String>>>,
    asked: RwLock<BTreeMap<String, Asked>>,
    /// How the checks went.
    pub(crate) slis: Slis,
}

impl Health {
    /// Takes in the state of a part.
    pub(crate) fn report(&self, name: &str, state: Result<(), String>) {
        self.reported.write().insert(name.to_owned(), state);
    }

    /// Asks this for `/healthz` and `/readyz` from now on. Not for `/livez`: another start would not mend it.
    pub(crate) fn ask(&self, name: &str, asked: Asked) {
        self.asked.write().insert(name.to_owned(), asked);
    }
}

/// Which question is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Should the process be restarted?
    Live,
    /// Should clients be sent here?
    Ready,
}

/// The checks of a question, by name; `path` says which of its paths was asked.
fn checks(server: &Inner, path: &str, question: Question) -> Vec<(String, Result<(), String>)> {
    let store = server.registry.store().status();
    let mut checks = vec![("ping".to_owned(), Ok(())), ("log".to_owned(), Ok(()))];
    // Under upstream's name, since scripts ask for it.
    checks.push(("etcd".to_owned(), store.failed.map_or(Ok(()), Err)));
    if path != "livez" {
        checks.extend(server.health.asked.read().iter().map(|(name, ask)| (name.clone(), ask())));
    }
    if question == Question::Ready {
        let writable = store.shortage.map_or(Ok(()), |shortage| Err(shortage.to_string()));
        checks.push(("store-writable".to_owned(), writable));
        let ending = server.ending.is_cancelled() || server.shutdown.is_cancelled();
        checks.push((
            "shutdown".to_owned(),
            if ending { Err("process is shutting down".to_owned()) } else { Ok(()) },
        ));
        checks
            .extend(server.health.reported.read().iter().map(|(name, state)| (name.clone(), state.clone())));
    }
    checks
}

/// Answers a health path; `None` when the path is none.
pub(crate) fn answer(server: &Inner, path: &str, query: &Query) -> Option<Response<ResponseBody>> {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let (name, question) = match parts.next()? {
        "healthz" => ("healthz", Question::Live),
        "livez" => ("livez", Question::Live),
        "readyz" => ("readyz", Question::Ready),
        _ => return None,
    };
    let mut checks = checks(server, name, question);
    if let Some(single) = parts.next() {
        checks.retain(|(check, _)| check == single);
        return Some(match checks.pop() {
            None => respond::text(404, "404 page not found\n"),
            Some((_, Ok(()))) => respond::text(200, "ok"),
            Some((_, Err(why))) => respond::text(500, format!("internal server error: {why}\n")),
        });
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    for (check, state) in checks.iter().filter(|(check, _)| !excluded.contains(&check.as_str())) {
        server.health.slis.count(name, check, state.is_ok());
    }
    Some(report(name, &checks, &excluded, query.flag("verbose")))
}

/// The answer about all checks: `ok`, or one line for each.
fn report(
    name: &str,
    checks: &[(String, Result<(), String>)],
    excluded: &[&str],
    verbose: bool,
) -> Response<ResponseBody> {
    let mut lines = String::new();
    let mut failed = false;
    for (check, state) in checks {
        let line = match state {
            _ if excluded.contains(&check.as_str()) => format!("[+]{check} excluded: ok\n"),
            Ok(()) => format!("[+]{check} ok\n"),
            Err(why) => {
                failed = true;
                tracing::warn!(check, why, "{name} check failed");
                // As upstream, the short answer keeps the reason to itself; `?verbose` and the path of the check alone
                // tell it.
                let shown = if verbose { why.replace('\n', " ") } else { "reason withheld".to_owned() };
                format!("[-]{check} failed: {shown}\n")
            }
        };
        lines.push_str(&line);
    }
    match (failed, verbose) {
        (true, _) => respond::text(500, format!("{lines}{name} check failed\n")),
        (false, true) => respond::text(200, format!("{lines}{name} check passed\n")),
        (false, false) => respond::text(200, "ok"),
    }
}
