//! The volumes of the pods of a node: which plugin does what, and where.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Volume as VolumeSpec, VolumeMount};
use rustix::mount::MountFlags;

use crate::atomic;
use crate::empty_dir::{self, Medium};
use crate::environment::expand_with;
use crate::error::VolumeError;
use crate::host_path;
use crate::mounts::{is_component, unmount_below};
use crate::needs::needs;
use crate::ownership::{belongs_to_group, fs_group, give_to_group};
use crate::payload::payload;
use crate::sources::{Needs, Sources};
use crate::sub_path::{self, SubPathError};

/// Makes, updates and removes the volumes below one folder (the kubelet's `--root-dir`).
#[derive(Debug, Clone)]
pub struct Volumes {
    root: PathBuf,
}

/// A volume that is ready to be mounted into containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Where it is on the host: a folder, or a file for some `hostPath` volumes.
    pub host_path: PathBuf,
    /// Whether containers may only read it, whatever their mounts say.
    pub read_only: bool,
}

/// One `volumeMounts` entry of a container.
#[derive(Debug, Clone, Copy)]
pub struct MountRequest<'a> {
    /// The container's name.
    pub container: &'a str,
    /// The entry's index in `volumeMounts`.
    pub index: usize,
    /// The entry.
    pub mount: &'a VolumeMount,
    /// The environment for `subPathExpr`, as [`crate::environment`] gives it.
    pub environment: &'a [(String, String)],
}

impl Volumes {
    /// The volumes below `root`, such as `/var/lib/carrack/node/kubelet`. Makes nothing yet.
    pub fn new(root: &Path) -> Volumes {
        Volumes { root: root.to_owned() }
    }

    /// Which API objects the pod's volumes and the environments of its containers refer to.
    pub fn needs(pod: &Pod) -> Needs {
        needs(pod)
    }

    /// `<root>/pods/<uid>`.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// Makes every volume of the pod, or brings what is there up to date with the sources. Gives the
    /// volumes by name. May be called again at any time, also for updates while containers use them.
    pub fn set_up(&self, pod: &Pod, sources: &Sources) -> Result<BTreeMap<String, Volume>, VolumeError> {
        let uid = uid(pod)?;
        let specs = pod.spec.iter().flat_map(|spec| &spec.volumes).flatten();
        let one = |spec: &VolumeSpec| Ok((spec.name.clone(), self.set_up_one(pod, uid, spec, sources)?));
        specs.map(one).collect()
    }

    /// The path to bind into the container for one mount. With `subPath` or `subPathExpr` the path is
    /// resolved beneath the volume without following symlinks out of it, made if it is missing, and pinned
    /// by a bind mount under `<pod>/volume-subpaths`, so that nobody can swap it before it is mounted.
    pub fn mount_source(
        &self,
        pod: &Pod,
        volumes: &BTreeMap<String, Volume>,
        request: MountRequest<'_>,
    ) -> Result<PathBuf, VolumeError> {
        let MountRequest { container, index, mount, .. } = request;
        let volume = volumes.get(&mount.name).ok_or_else(|| VolumeError::Unknown(mount.name.clone()))?;
        let wrong = |message: String| VolumeError::SubPath {
            volume: mount.name.clone(),
            container: container.to_owned(),
            message,
        };
        let Some(path) = sub_path_of(request).map_err(wrong)? else {
            return Ok(volume.host_path.clone());
        };
        if !is_component(container) {
            return Err(wrong("the container's name is not a name".to_owned()));
        }
        let places = self.pod_dir(uid(pod)?).join("volume-subpaths").join(&mount.name).join(container);
        let place = places.join(index.to_string());
        let found = sub_path::open(&volume.host_path, &path).map_err(|error| match error {
            SubPathError::Path(message) => wrong(message),
            SubPathError::Io(error) => wrong(format!("\"{path}\": {error}")),
        })?;
        sub_path::pin(&found, &place).map_err(io_error("bind the sub path to", &place))?;
        Ok(place)
    }

    /// Unmounts and removes everything of the pod, its folder included. Fine to repeat.
    pub fn tear_down(&self, uid: &str) -> Result<(), VolumeError> {
        if !is_component(uid) {
            return Err(VolumeError::Name(uid.to_owned()));
        }
        let dir = self.pod_dir(uid);
        // Nothing is removed before nothing is mounted: what is mounted may be the host's.
        unmount_below(&dir).map_err(io_error("unmount what is below", &dir))?;
        carrack_files::remove_tree(&dir).map_err(io_error("remove", &dir))
    }

    /// Tears down every pod on disk whose uid is not in `uids`. Goes on after a failure and gives the first.
    pub fn retain(&self, uids: &HashSet<String>) -> Result<(), VolumeError> {
        let pods = self.root.join("pods");
        let entries = match fs::read_dir(&pods) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(io_error("read", &pods))?,
        };
        let mut outcome = Ok(());
        for entry in entries {
            let name = entry.map_err(io_error("read", &pods))?.file_name();
            let uid = name.to_string_lossy();
            if !uids.contains(&*uid) {
                let torn = self.tear_down(&uid);
                if let Err(error) = &torn {
                    tracing::warn!(%uid, %error, "the volumes of a pod that is gone could not be removed");
                }
                outcome = outcome.and(torn);
            }
        }
        outcome
    }

    fn set_up_one(
        &self,
        pod: &Pod,
        uid: &str,
        spec: &VolumeSpec,
        sources: &Sources,
    ) -> Result<Volume, VolumeError> {
        let failed = |message| VolumeError::SetUp { volume: spec.name.clone(), message };
        if !is_component(&spec.name) {
            return Err(VolumeError::Name(spec.name.clone()));
        }
        if let Some(source) = &spec.host_path {
            let host_path = host_path::set_up(source).map_err(failed)?;
            return Ok(Volume { host_path, read_only: false });
        }
        let kind = plugin(spec);
        if let Some(files) = payload(pod, spec, sources) {
            let dir = self.volume_dir(uid, kind.folder, &spec.name)?;
            let medium = if spec.config_map.is_some() { Medium::Disk } else { Medium::Memory(None) };
            let quiet = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
            empty_dir::set_up(&dir, medium, quiet).map_err(io_error("set up", &dir))?;
            let own = |path: &Path| match fs_group(pod) {
                Some(group) => give_to_group(path, group, true),
                None => Ok(()),
            };
            atomic::write(&dir, &files.map_err(failed)?, own).map_err(io_error("write", &dir))?;
            return Ok(Volume { host_path: dir, read_only: true });
        }
        // The API defaults a volume without a source to an emptyDir.
        if spec.empty_dir.is_some() || kind.name.is_none() {
            let source = spec.empty_dir.clone().unwrap_or_default();
            let medium = empty_dir::medium(pod, &source, sources).map_err(failed)?;
            let dir = self.volume_dir(uid, kind.folder, &spec.name)?;
            set_up_empty_dir(pod, &dir, medium).map_err(io_error("set up", &dir))?;
            return Ok(Volume { host_path: dir, read_only: false });
        }
        let kind = kind.name.unwrap_or_default();
        Err(VolumeError::Unsupported { volume: spec.name.clone(), kind })
    }

    /// The folder of a volume; the folders above it are made.
    fn volume_dir(&self, uid: &str, plugin: &str, name: &str) -> Result<PathBuf, VolumeError> {
        let parent = self.pod_dir(uid).join("volumes").join(format!("kubernetes.io~{plugin}"));
        fs::create_dir_all(&parent).map_err(io_error("make", &parent))?;
        // Other users of the host have no business in the volumes of pods.
        let pod_dir = self.pod_dir(uid);
        let private = fs::Permissions::from_mode(0o750);
        fs::set_permissions(&pod_dir, private).map_err(io_error("make", &pod_dir))?;
        Ok(parent.join(name))
    }
}

fn set_up_empty_dir(pod: &Pod, dir: &Path, medium: Medium) -> io::Result<()> {
    let is_new = empty_dir::set_up(dir, medium, MountFlags::NODEV)?;
    let Some(group) = fs_group(pod) else { return Ok(()) };
    // Files that containers have made since are theirs; only what a crash left undone is finished.
    match is_new || !belongs_to_group(dir, group)? {
        true => give_to_group(dir, group, false),
        false => Ok(()),
    }
}

/// Name of a volume's type in the API, and of its folder.
struct Plugin {
    /// `None` if the volume has no source at all.
    name: Option<String>,
    folder: &'static str,
}

fn plugin(spec: &VolumeSpec) -> Plugin {
    let object = serde_json::to_value(spec).ok();
    let name =
        object.as_ref().and_then(|value| value.as_object()?.keys().find(|key| *key != "name").cloned());
    let folder = match name.as_deref() {
        Some("configMap") => "configmap",
        Some("secret") => "secret",
        Some("projected") => "projected",
        Some("downwardAPI") => "downward-api",
        _ => "empty-dir",
    };
    Plugin { name, folder }
}

/// The sub path of a mount with its variables filled in; `None` if there is none.
fn sub_path_of(request: MountRequest<'_>) -> Result<Option<String>, String> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(expression) = given(&request.mount.sub_path_expr) {
        let variables = request.environment;
        let lookup =
            |name: &str| variables.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        return match expand_with(&expression, lookup) {
            (_, Some(missing)) => Err(format!("missing value for \"{missing}\"")),
            (path, None) => Ok(Some(path)),
        };
    }
    Ok(given(&request.mount.sub_path))
}

fn uid(pod: &Pod) -> Result<&str, VolumeError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match is_component(uid) {
        true => Ok(uid),
        false => Err(VolumeError::Name(uid.to_owned())),
    }
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> VolumeError + 'a {
    move |source| VolumeError::Io { action, path: path.to_owned(), source }
}
