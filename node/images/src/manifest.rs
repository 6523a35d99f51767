//! Manifests, indexes and configurations of images, in OCI's form and docker's (schema 2), which differ
//! in their media types only.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::image::ImageConfig;

/// What a registry is asked for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// The largest manifest, index or configuration; docker's and containerd's bound for manifests.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// The most layers; overlayfs takes no more than 500 lower folders, of which one may be ours.
const MAX_LAYERS: usize = 499;

/// The only platform this node runs. (A build for another machine changes this.)
pub(crate) const OS: &str = "linux";
/// The machine, in Go's words.
pub(crate) const ARCHITECTURE: &str = "amd64";

/// A thing named by its content.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: String,
}

/// What a manifest's name may lead to.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest { config: Descriptor, layers: Vec<Descriptor> },
}

/// Why a document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("{0}")]
    Malformed(String),
    #[error("no match for platform in manifest: this node is {OS}/{ARCHITECTURE}, the image is for {0}")]
    Platform(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyDocument {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// Parses a manifest or an index.
pub(crate) fn parse(bytes: &[u8]) -> Result<Document, DocumentError> {
    let malformed = |text: &str| Err(DocumentError::Malformed(text.to_owned()));
    let any: AnyDocument = json(bytes, "manifest")?;
    let media_type = any.media_type.unwrap_or_default();
    match (any.schema_version, any.manifests, any.config, any.layers) {
        (Some(1), ..) => {
            malformed("manifest schema 1 is no longer supported; push the image again with a newer tool")
        }
        (Some(2), Some(manifests), None, None) => Ok(Document::Index(manifests)),
        (Some(2), None, Some(config), Some(layers)) => match layers.len() <= MAX_LAYERS {
            true => Ok(Document::Manifest { config, layers }),
            false => malformed(&format!("{} layers; overlayfs takes at most {MAX_LAYERS}", layers.len())),
        },
        _ => malformed(&format!("\"{media_type}\" is neither an image manifest nor an index")),
    }
}

/// The manifest of an index that is meant for this machine: the first one that fits, as containerd takes.
pub(crate) fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, DocumentError> {
    let fits = |descriptor: &&Descriptor| match &descriptor.platform {
        Some(platform) => {
            platform.os == OS
                && platform.architecture == ARCHITECTURE
                && matches!(platform.variant.as_str(), "" | "v1")
        }
        None => manifests.len() == 1,
    };
    manifests.iter().find(fits).ok_or_else(|| {
        let name = |platform: &Platform| format!("{}/{}", platform.os, platform.architecture);
        let mut found: Vec<String> =
            manifests.iter().filter_map(|one| one.platform.as_ref().map(name)).collect();
        found.retain(|name| name != "unknown/unknown");
        found.dedup();
        DocumentError::Platform(if found.is_empty() { "no platform".to_owned() } else { found.join(", ") })
    })
}

/// What an image's configuration says.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) config: ImageConfig,
    /// Digests of the uncompressed layers, bottom first.
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawConfiguration {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    config: Option<RawConfig>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<Digest>>,
}

/// Docker writes `null` for what is empty.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    labels: Option<BTreeMap<String, String>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

/// Parses a configuration and checks that it is for this machine.
pub(crate) fn parse_configuration(bytes: &[u8]) -> Result<Configuration, DocumentError> {
    let raw: RawConfiguration = json(bytes, "image configuration")?;
    let for_us = matches!(raw.os.as_str(), "" | OS) && matches!(raw.architecture.as_str(), "" | ARCHITECTURE);
    if !for_us {
        return Err(DocumentError::Platform(format!("{}/{}", raw.os, raw.architecture)));
    }
    let config = raw.config.unwrap_or_default();
    let config = ImageConfig {
        entrypoint: config.entrypoint.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
        volumes: config.volumes.unwrap_or_default().into_keys().collect(),
        labels: config.labels.unwrap_or_default(),
        exposed_ports: config.exposed_ports.unwrap_or_default().into_keys().collect(),
    };
    Ok(Configuration { config, diff_ids: raw.rootfs.diff_ids.unwrap_or_default() })
}

/// Parses JSON; the error names what it was.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, DocumentError> {
    serde_json::from_slice(bytes)
        .map_err(|error| DocumentError::Malformed(format!("the {what} is malformed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn index(platforms: &[(&str, &str)]) -> Vec<Descriptor> {
        let one = |(os, architecture): &(&str, &str)| {
            format!(
                r#"{{"digest":"{HASH}","size":1,"platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#
            )
        };
        let list: Vec<String> = platforms.iter().map(one).collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, list.join(","));
        match parse(text.as_bytes()).unwrap() {
            Document::Index(list) => list,
            Document::Manifest { .. } => panic!("an index"),
        }
    }

    #[test]
    fn chooses_this_machine() {
        let list = index(&[("linux", "arm64"), ("linux", "amd64")]);
        assert_eq!(choose(&list).unwrap().platform.as_ref().unwrap().architecture, "amd64");
        let list = index(&[("linux", "arm64"), ("windows", "amd64"), ("unknown", "unknown")]);
        let error = choose(&list).unwrap_err();
        assert_eq!(error, DocumentError::Platform("linux/arm64, windows/amd64".to_owned()));
    }

    #[test]
    fn refuses_what_is_not_a_manifest() {
        for text in ["", "[]", "{}", r#"{"schemaVersion":1}"#, r#"{"schemaVersion":2,"config":{}}"#] {
            assert!(matches!(parse(text.as_bytes()), Err(DocumentError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn reads_dockers_nulls() {
        let text = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{{"Cmd":["sh"],"Entrypoint":null,"Volumes":{{"/data":{{}}}},
            "Labels":null,"StopSignal":""}},"rootfs":{{"type":"layers","diff_ids":["{HASH}"]}}}}"#
        );
        let read = parse_configuration(text.as_bytes()).unwrap();
        assert_eq!((read.config.cmd, read.config.stop_signal), (vec!["sh".to_owned()], None));
        assert!(read.config.volumes.contains("/data"));
        assert_eq!(read.diff_ids.len(), 1);
        let other = r#"{"os":"linux","architecture":"s390x","rootfs":{"diff_ids":[]}}"#;
        assert!(matches!(parse_configuration(other.as_bytes()), Err(DocumentError::Platform(_))));
    }
}
