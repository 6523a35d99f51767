//! As whom admission webhooks are called: the users of a kubeconfig, found by the name of the server that is called,
//! as upstream's `kubeConfigFile` of a WebhookAdmissionConfiguration has it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Target;
use super::credentials::Credentials;
use super::kubeconfig::{Kubeconfig, KubeconfigError};

/// The port that need not be named.
const HTTPS: u16 = 443;

/// Users by the servers that they are for: `name.namespace.svc`, `host:port`, `*.example.org` or `*`.
#[derive(Clone, Debug, Default)]
pub struct WebhookUsers {
    users: BTreeMap<String, Arc<Credentials>>,
    /// The one of the current context, for all others.
    current: Option<Arc<Credentials>>,
}

impl WebhookUsers {
    /// Reads the kubeconfig at `path`, of which clusters do not matter.
    pub fn open(path: &Path) -> Result<Self, KubeconfigError> {
        let (users, current) = Kubeconfig::read(path)?.users()?;
        let current = current.and_then(|name| users.get(&name).cloned());
        Ok(WebhookUsers { users, current })
    }

    /// The target, with the credentials that are for its server.
    pub(crate) fn known_to(&self, target: &Target) -> Target {
        let Some(credentials) = target.host().and_then(|(host, port)| self.of(&host, port)) else {
            return target.clone();
        };
        target.clone().with(credentials)
    }

    /// Who one is to `host:port`: its own name, a `*.` with the longest rest, the same without the usual port, `*`, the
    /// current context.
    fn of(&self, host: &str, port: u16) -> Option<&Arc<Credentials>> {
        let with_port = format!("{host}:{port}");
        let without = (port == HTTPS).then_some(host);
        std::iter::once(with_port.as_str())
            .chain(without)
            .flat_map(names)
            .chain([String::from("*")])
            .find_map(|name| self.users.get(&name))
            .or(self.current.as_ref())
    }
}

/// The names that a server is found under, the most exact first.
fn names(server: &str) -> impl Iterator<Item = String> {
    let rests = server.match_indices('.').map(|(at, _)| format!("*{}", &server[at..]));
    std::iter::once(server.to_owned()).chain(rests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_name_counts() {
        let user = |_: &str| Arc::new(Credentials::default());
        let named = |names: &[&str]| WebhookUsers {
            users: names.iter().map(|name| ((*name).to_owned(), user(name))).collect(),
            current: None,
        };
        let all = ["a.n.svc:443", "a.n.svc", "*.n.svc:8443", "*.n.svc", "*.svc", "*"];
        // Users, the server, the user that counts.
        let cases: [(&[&str], &str, u16, Option<&str>); 9] = [
            (&all, "a.n.svc", 443, Some("a.n.svc:443")),
            (&all, "a.n.svc", 8443, Some("*.n.svc:8443")),
            (&all, "b.n.svc", 443, Some("*.n.svc")),
            (&all, "b.m.svc", 443, Some("*.svc")),
            (&all, "b.m.svc", 444, Some("*")),
            (&["a.n.svc"], "a.n.svc", 443, Some("a.n.svc")),
            (&["a.n.svc"], "a.n.svc", 8443, None),
            (&["*.n.svc"], "n.svc", 443, None),
            (&["127.0.0.1:8443"], "127.0.0.1", 8443, Some("127.0.0.1:8443")),
        ];
        for (users, host, port, expected) in cases {
            let users = named(users);
            let found = users.of(host, port);
            let name = users.users.iter().find(|(_, user)| found.is_some_and(|it| Arc::ptr_eq(it, user)));
            assert_eq!(name.map(|(name, _)| name.as_str()), expected, "{host}:{port}");
        }
        let current = WebhookUsers { current: Some(user("current")), ..named(&[]) };
        assert!(current.of("x", 1).is_some(), "the current context stands for all others");
    }
}
