//! The `kms` provider in an EncryptionConfiguration, checked by upstream's rules.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// Upstream's default.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What the file says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::encryption) struct FileKms {
    /// Upstream takes v1 where nothing is said.
    #[serde(default = "v1")]
    api_version: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    cachesize: Option<i64>,
    #[serde(default)]
    endpoint: String,
    timeout: Option<String>,
}

fn v1() -> String {
    "v1".to_owned()
}

/// A plugin, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::encryption) struct KmsSettings {
    pub(super) name: String,
    /// A path, or a zero byte and an abstract name.
    pub(super) socket: PathBuf,
    /// For each call.
    pub(super) timeout: Duration,
}

impl KmsSettings {
    pub(in crate::encryption) fn name(&self) -> &str {
        &self.name
    }

    /// Checks; `Err` has the field and what is wrong with it.
    pub(in crate::encryption) fn check(file: FileKms) -> Result<Self, (&'static str, String)> {
        match file.api_version.as_str() {
            "v2" => {}
            "v1" => {
                let why = "KMSv1 is deprecated and off by default upstream; this server has KMSv2 alone: say \
                           `apiVersion: v2` and use a plugin that speaks it";
                return Err(("apiVersion", why.to_owned()));
            }
            other => {
                let why = format!("unsupported apiVersion {other} for KMS provider, only v2 is supported");
                return Err(("apiVersion", why));
            }
        }
        if file.name.is_empty() {
            return Err(("name", "name is a mandatory field for a provider".to_owned()));
        }
        if file.name.contains(':') {
            return Err(("name", format!("invalid KMS provider name {}, must not contain ':'", file.name)));
        }
        if file.cachesize.is_some() {
            return Err(("cachesize", "cachesize is not supported in v2".to_owned()));
        }
        let timeout = match &file.timeout {
            None => TIMEOUT,
            Some(text) => crate::settings::duration(text).map_err(|why| ("timeout", why))?,
        };
        if timeout.is_zero() {
            return Err(("timeout", "timeout should be a positive value".to_owned()));
        }
        let socket = socket(&file.endpoint).map_err(|why| ("endpoint", why))?;
        Ok(KmsSettings { name: file.name, socket, timeout })
    }
}

/// `unix:///run/kms.sock`, or `unix:///@name` for an abstract socket.
fn socket(endpoint: &str) -> Result<PathBuf, String> {
    if endpoint.is_empty() {
        return Err("endpoint is a mandatory field for a kms".to_owned());
    }
    let scheme = endpoint.split_once(':').map_or("", |(scheme, _)| scheme);
    let path = match endpoint.strip_prefix("unix://") {
        Some(path) => path,
        None if scheme == "unix" => {
            return Err("invalid endpoint for kms provider: write unix:///PATH".to_owned());
        }
        None => {
            return Err(format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported"));
        }
    };
    match path.strip_prefix("/@") {
        Some(name) => Ok(PathBuf::from(format!("\0{name}"))),
        None if path.starts_with('/') => Ok(PathBuf::from(path)),
        None => Err(format!("invalid endpoint for kms provider: {endpoint:?} has no absolute path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &str) -> Result<KmsSettings, (&'static str, String)> {
        KmsSettings::check(serde_saphyr::from_str(&format!("{{{fields}}}")).unwrap())
    }

    #[test]
    fn a_plugin_is_read_with_upstreams_defaults() {
        let settings = read("apiVersion: v2, name: a, endpoint: 'unix:///run/a.sock'").unwrap();
        let expected = KmsSettings { name: "a".into(), socket: "/run/a.sock".into(), timeout: TIMEOUT };
        assert_eq!(settings, expected);
        let settings = read("apiVersion: v2, name: a, endpoint: 'unix:///@a', timeout: 500ms").unwrap();
        assert_eq!(settings.socket, PathBuf::from("\0a"));
        assert_eq!(settings.timeout, Duration::from_millis(500));
    }

    #[test]
    fn mistakes_are_told_with_their_field() {
        let good = "apiVersion: v2, name: a, endpoint: 'unix:///a'";
        for (fields, field, says) in [
            ("name: a, endpoint: 'unix:///a'", "apiVersion", "KMSv1 is deprecated"),
            ("apiVersion: v3, name: a, endpoint: 'unix:///a'", "apiVersion", "unsupported apiVersion v3"),
            ("apiVersion: v2, endpoint: 'unix:///a'", "name", "mandatory"),
            ("apiVersion: v2, name: 'a:b', endpoint: 'unix:///a'", "name", "must not contain ':'"),
            (&format!("{good}, cachesize: 5"), "cachesize", "not supported in v2"),
            (&format!("{good}, timeout: 0s"), "timeout", "positive"),
            (&format!("{good}, timeout: soon"), "timeout", "no duration"),
            ("apiVersion: v2, name: a", "endpoint", "mandatory"),
            ("apiVersion: v2, name: a, endpoint: 'tcp://a:1'", "endpoint", "only unix is supported"),
            ("apiVersion: v2, name: a, endpoint: 'unix://a.sock'", "endpoint", "no absolute path"),
        ] {
            let (at, why) = read(fields).unwrap_err();
            assert!(at == field && why.contains(says), "{fields}: {at}: {why}");
        }
    }
}
