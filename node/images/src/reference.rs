//! Image references as people write them, brought to the one form that names an image.
//!
//! The grammar and the defaults are those of the distribution project's `reference` package, which
//! docker, containerd and the kubelet share: `busybox` is `docker.io/library/busybox:latest`.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// The registry of a reference that names none.
pub(crate) const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of a reference that has neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// The longest repository name, registry included, that the grammar allows.
const MAX_NAME: usize = 255;
/// The longest tag that the grammar allows.
const MAX_TAG: usize = 128;

/// A normalised image reference: `registry/repository`, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The repository has upper-case letters.
    #[error("invalid reference format: repository name must be lowercase")]
    NotLowercase,
    /// The name is longer than 255 characters.
    #[error("repository name must not be more than 255 characters")]
    NameTooLong,
    /// 64 hex digits alone are an image id, not a name.
    #[error("cannot specify 64-byte hexadecimal strings as a repository name")]
    LooksLikeId,
    /// A digest of another form than `sha256:<64 hex digits>`.
    #[error("unsupported digest: only sha256 is supported")]
    Digest,
}

impl Reference {
    /// The registry as written or `docker.io`, with the port if there is one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository inside the registry, such as `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if the reference has one. A digest wins over it when both are there.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned to one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Whether the reference may mean another image tomorrow because its tag is `latest`: the
    /// kubelet's rule for the default pull policy `Always`.
    pub fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag() == Some(DEFAULT_TAG)
    }

    /// The host (and port) that serves the registry's API.
    pub(crate) fn host(&self) -> &str {
        match self.registry.as_str() {
            DEFAULT_REGISTRY => "registry-1.docker.io",
            other => other,
        }
    }

    /// What follows `/manifests/` in the registry's API.
    pub(crate) fn manifest(&self) -> String {
        match (self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        if Digest::from_hex(text).is_ok() {
            return Err(ReferenceError::LooksLikeId);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| ReferenceError::Digest)?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest)?;
        let (registry, repository) = split_registry(name);
        check_registry(&registry)?;
        check_repository(&repository)?;
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(ReferenceError::NameTooLong);
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Reference { registry, repository, tag, digest })
    }
}

/// Splits `name:tag`; a colon before the last slash belongs to the registry's port.
fn split_tag(text: &str) -> Result<(&str, Option<&str>), ReferenceError> {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => {
            let mut bytes = tag.bytes();
            let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
            match first && rest && tag.len() <= MAX_TAG {
                true => Ok((name, Some(tag))),
                false => Err(ReferenceError::Format),
            }
        }
        _ => Ok((text, None)),
    }
}

/// The first component is a registry if it looks like a host; docker's rule.
fn split_registry(name: &str) -> (String, String) {
    let is_host = |part: &str| {
        part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = match registry {
        "index.docker.io" => DEFAULT_REGISTRY,
        other => other,
    };
    match registry == DEFAULT_REGISTRY && !repository.contains('/') {
        true => (registry.to_owned(), format!("library/{repository}")),
        false => (registry.to_owned(), repository.to_owned()),
    }
}

/// `host[:port]`, the host being dot-separated labels or an IPv6 address in brackets.
fn check_registry(registry: &str) -> Result<(), ReferenceError> {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(ReferenceError::Format)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| ReferenceError::Format)?;
            (
                None,
                port.strip_prefix(':')
                    .map_or(if port.is_empty() { Ok(None) } else { Err(()) }, |p| Ok(Some(p))),
            )
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Ok(Some(port))),
            None => (Some(registry), Ok(None)),
        },
    };
    let label = |label: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let inside = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inside && edge(label.bytes().next()) && edge(label.bytes().last())
    };
    let host_is_good = host.is_none_or(|host| host.split('.').all(label));
    let port_is_good = match port {
        Ok(None) => true,
        Ok(Some(port)) => port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
        Err(()) => false,
    };
    if host_is_good && port_is_good { Ok(()) } else { Err(ReferenceError::Format) }
}

/// Components of lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn check_repository(repository: &str) -> Result<(), ReferenceError> {
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::NotLowercase);
    }
    match repository.split('/').all(is_path_component) {
        true => Ok(()),
        false => Err(ReferenceError::Format),
    }
}

fn is_path_component(component: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let edges = bytes.first().is_some_and(|byte| word(*byte)) && bytes.last().is_some_and(|byte| word(*byte));
    let separators = component.split(|char: char| char.is_ascii_lowercase() || char.is_ascii_digit());
    let known = |separator: &str| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    };
    edges && separators.into_iter().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        text.parse::<Reference>().unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
    }

    #[test]
    fn fills_in_what_docker_fills_in() {
        let hash = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (written, meant) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("team/app", "docker.io/team/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("localhost:5000/nope:1", "localhost:5000/nope:1"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("ghcr.io/a/b/c_d/e__f/g---h:V1_x", "ghcr.io/a/b/c_d/e__f/g---h:V1_x"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("Example/app", "Example/app:latest"),
        ] {
            assert_eq!(normal(written), meant, "{written}");
        }
        assert_eq!(normal(&format!("a/b@{hash}")), format!("docker.io/a/b@{hash}"));
        assert_eq!(normal(&format!("a/b:2@{hash}")), format!("docker.io/a/b:2@{hash}"));
    }

    #[test]
    fn says_what_is_wrong() {
        let id = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let long = "a".repeat(256);
        for (written, error) in [
            ("", ReferenceError::Format),
            ("busybox:", ReferenceError::Format),
            (":latest", ReferenceError::Format),
            ("BusyBox", ReferenceError::NotLowercase),
            ("docker.io/A", ReferenceError::NotLowercase),
            ("a//b", ReferenceError::Format),
            ("a/../b", ReferenceError::Format),
            ("-a", ReferenceError::Format),
            ("a___b", ReferenceError::Format),
            ("a b", ReferenceError::Format),
            ("host.io:port/a", ReferenceError::Format),
            ("host.io:99999/a", ReferenceError::Format),
            ("a:t@sha256:00", ReferenceError::Digest),
            ("http://a/b", ReferenceError::Format),
            (id, ReferenceError::LooksLikeId),
            (&long, ReferenceError::NameTooLong),
        ] {
            assert_eq!(written.parse::<Reference>(), Err(error), "{written}");
        }
    }

    #[test]
    fn knows_the_registry_and_the_manifest() {
        let reference: Reference = "busybox".parse().unwrap();
        assert_eq!((reference.host(), reference.manifest().as_str()), ("registry-1.docker.io", "latest"));
        assert!(reference.is_latest());
        let reference: Reference = "localhost:5000/a/b:1".parse().unwrap();
        assert_eq!(
            (reference.host(), reference.repository(), reference.tag()),
            ("localhost:5000", "a/b", Some("1"))
        );
        assert!(!reference.is_latest());
    }
}
