//! Links of an answer: those that lead to the same server are made to lead through this one.

/// What is known of the way that an answer came.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    /// The path of this server that stands for the other's root: `/api/v1/…/proxy`.
    pub(super) prefix: String,
    /// `host:port` of the other server.
    pub(super) source: String,
    /// The host as the client called it.
    pub(super) host: String,
}

/// The parts of a URL that matter (RFC 3986, appendix B).
struct Url<'a> {
    /// `http:`, or empty.
    scheme: &'a str,
    /// `//host:port`, or empty.
    authority: &'a str,
    path: &'a str,
    /// From `?` or `#` on.
    rest: &'a str,
}

impl<'a> Url<'a> {
    fn split(text: &'a str) -> Self {
        let (before, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
        let colon = before.find([':', '/']).filter(|at| before.as_bytes()[*at] == b':');
        let (scheme, after) = before.split_at(colon.map_or(0, |at| at + 1));
        let (authority, path) = match after.strip_prefix("//") {
            Some(named) => after.split_at(named.find('/').map_or(after.len(), |at| at + 2)),
            None => ("", after),
        };
        Url { scheme, authority, path, rest }
    }

    /// The host and the port, without a user.
    fn host(&self) -> &'a str {
        let host = self.authority.trim_start_matches('/');
        host.rsplit_once('@').map_or(host, |(_, host)| host)
    }
}

impl Links {
    /// The link as the client has to follow it; `None` when it is right as it is.
    pub(super) fn led_back(&self, link: &str) -> Option<String> {
        let url = Url::split(link.trim());
        let host = url.host();
        let is_elsewhere = !host.is_empty() && host != self.source && host != self.host;
        if is_elsewhere || !url.path.starts_with('/') {
            return None;
        }
        let (scheme, authority) =
            if !host.is_empty() && host == self.host { (url.scheme, url.authority) } else { ("", "") };
        let prefix = if url.path.starts_with(&self.prefix) { "" } else { &self.prefix };
        let new = format!("{scheme}{authority}{prefix}{}{}", url.path, url.rest);
        (new != link).then_some(new)
    }
}
