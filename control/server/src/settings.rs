//! What configuration files have in common: `apiVersion` and `kind`, and Go's way of writing durations.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

const GROUP: &str = "apiserver.config.k8s.io";
/// The fields that count are the same in all of them.
const VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha1"];

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum SettingsError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {why}", path.display())]
    Wrong { path: PathBuf, why: String },
}

pub(crate) fn text(path: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.into(), source })
}

pub(crate) fn wrong(path: &Path, why: String) -> SettingsError {
    SettingsError::Wrong { path: path.into(), why }
}

/// The document in `text`, which has to be of this kind.
pub(crate) fn document<T: DeserializeOwned>(text: &str, kind: &str) -> Result<T, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        #[serde(default)]
        api_version: String,
        #[serde(default)]
        kind: String,
    }
    let head: Head = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let version = head.api_version.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix('/'));
    if !version.is_some_and(|version| VERSIONS.contains(&version)) || head.kind != kind {
        return Err(format!(
            "it has to be of apiVersion {GROUP}/v1 and kind {kind}, not {:?} and {:?}",
            head.api_version, head.kind
        ));
    }
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

/// A duration such as `1h30m`, `5m0s`, `1.5s` or `300ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: &[(&str, f64)] =
        &[("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    let wrong = || format!("{text:?} is no duration such as 30s, 5m or 1h30m");
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let (unit, factor) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(wrong)?;
        seconds += number * factor;
        rest = &rest[unit.len()..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        for (text, millis) in
            [("30s", 30_000), ("5m0s", 300_000), ("1h30m", 5_400_000), ("1.5s", 1500), ("20ms", 20), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "m", "-1s", "1y", "1s2"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
