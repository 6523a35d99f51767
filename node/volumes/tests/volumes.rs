//! Volumes of whole pods in temporary folders. Needs root, as the node does.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use carrack_volumes::{MountRequest, Sources, TokenKey, Volume, VolumeError, Volumes};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A kubelet's folder that is unmounted and removed with the test.
struct Node {
    dir: tempfile::TempDir,
    volumes: Volumes,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.volumes.retain(&HashSet::new()).unwrap();
    }
}

impl Node {
    fn new() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(dir.path());
        Node { dir, volumes }
    }

    fn set_up(&self, pod: &Pod, sources: &Sources) -> BTreeMap<String, Volume> {
        self.volumes.set_up(pod, sources).unwrap()
    }

    fn error(&self, volumes: &str, sources: &Sources) -> String {
        self.volumes.set_up(&pod(volumes), sources).unwrap_err().to_string()
    }
}

/// A pod with these volumes, and what else of its spec is given.
fn pod_with(volumes: &str, spec: &str) -> Pod {
    serde_json::from_str(&format!(
        r#"{{"metadata":{{"name":"p","namespace":"ns","uid":"uid-1","labels":{{"app":"web"}}}},
        "spec":{{"containers":[{{"name":"c","resources":{{"limits":{{"memory":"64Mi"}}}}}}],"volumes":[{volumes}]{spec}}}}}"#
    ))
    .unwrap()
}

fn pod(volumes: &str) -> Pod {
    pod_with(volumes, "")
}

fn sources() -> Sources {
    let config_map: ConfigMap =
        serde_json::from_str(r#"{"data":{"a":"1","b":"2"},"binaryData":{"raw":"/wA="}}"#).unwrap();
    let secret: Secret = serde_json::from_str(r#"{"data":{"password":"aHVudGVyMg=="}}"#).unwrap();
    Sources {
        config_maps: [("cm".to_owned(), Some(config_map)), ("gone".to_owned(), None)].into(),
        secrets: [("sec".to_owned(), Some(secret)), ("gone".to_owned(), None)].into(),
        tokens: [(TokenKey { audience: "vault".to_owned(), expiration_seconds: 600 }, "t0ken".to_owned())]
            .into(),
        allocatable: [("memory".to_owned(), Quantity("1Gi".to_owned()))].into(),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn is_memory(path: &Path) -> bool {
    rustix::fs::statfs(path).unwrap().f_type == 0x0102_1994
}

#[test]
fn config_maps_follow_their_object() {
    let node = Node::new();
    let pod = pod(r#"{"name":"all","configMap":{"name":"cm"}},
        {"name":"some","configMap":{"name":"cm","defaultMode":256,"items":[{"key":"a","path":"x/y","mode":511},{"key":"raw","path":"r"}]}},
        {"name":"maybe","configMap":{"name":"gone","optional":true}}"#);
    let mut sources = sources();
    let volumes = node.set_up(&pod, &sources);
    let all = &volumes["all"].host_path;
    assert_eq!(*all, node.dir.path().join("pods/uid-1/volumes/kubernetes.io~configmap/all"));
    assert!(volumes["all"].read_only && !is_memory(all));
    assert_eq!(fs::read(all.join("a")).unwrap(), b"1");
    assert_eq!(fs::read(all.join("raw")).unwrap(), [0xff, 0]);
    assert_eq!(mode(&all.join("a")), 0o644);
    let some = &volumes["some"].host_path;
    assert_eq!((mode(&some.join("x/y")), mode(&some.join("r"))), (0o777, 0o400));
    assert!(!some.join("b").exists());
    assert_eq!(
        fs::read_dir(&volumes["maybe"].host_path)
            .unwrap()
            .filter(|e| { !e.as_ref().unwrap().file_name().to_string_lossy().starts_with("..") })
            .count(),
        0
    );

    // The optional one appears, a key changes, another vanishes.
    let changed: ConfigMap = serde_json::from_str(r#"{"data":{"a":"new","raw":"text"}}"#).unwrap();
    sources.config_maps.insert("cm".to_owned(), Some(changed.clone()));
    sources.config_maps.insert("gone".to_owned(), Some(changed));
    assert_eq!(node.set_up(&pod, &sources), volumes);
    assert_eq!(fs::read(all.join("a")).unwrap(), b"new");
    assert!(!all.join("b").exists());
    assert_eq!(fs::read(volumes["maybe"].host_path.join("a")).unwrap(), b"new");
}

#[test]
fn secrets_stay_in_memory() {
    let node = Node::new();
    let pod = pod(r#"{"name":"s","secret":{"secretName":"sec","defaultMode":288}}"#);
    let volumes = node.set_up(&pod, &sources());
    let path = &volumes["s"].host_path;
    assert_eq!(*path, node.dir.path().join("pods/uid-1/volumes/kubernetes.io~secret/s"));
    assert!(is_memory(path) && volumes["s"].read_only);
    assert_eq!(fs::read(path.join("password")).unwrap(), b"hunter2");
    assert_eq!(mode(&path.join("password")), 0o440);
    let first = fs::metadata(path).unwrap().dev();
    node.set_up(&pod, &sources());
    assert_eq!(fs::metadata(path).unwrap().dev(), first, "mounted once");
    node.volumes.tear_down("uid-1").unwrap();
    node.volumes.tear_down("uid-1").unwrap();
    assert!(!node.dir.path().join("pods/uid-1").exists());
}

#[test]
fn projected_volumes_put_sources_together() {
    let node = Node::new();
    let volume = r#"{"name":"p","projected":{"defaultMode":420,"sources":[
        {"serviceAccountToken":{"audience":"vault","expirationSeconds":600,"path":"token"}},
        {"configMap":{"name":"cm","items":[{"key":"a","path":"cfg/a"}]}},
        {"secret":{"name":"sec"}},
        {"downwardAPI":{"items":[{"path":"labels","fieldRef":{"fieldPath":"metadata.labels"}},
            {"path":"mem","resourceFieldRef":{"containerName":"c","resource":"limits.memory","divisor":"1Mi"}}]}}]}}"#;
    let volumes = node.set_up(&pod(volume), &sources());
    let path = &volumes["p"].host_path;
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    assert_eq!(
        (read("token").as_str(), read("cfg/a").as_str(), read("password").as_str()),
        ("t0ken", "1", "hunter2")
    );
    assert_eq!((read("labels").as_str(), read("mem").as_str()), ("app=\"web\"", "64"));
    assert_eq!(mode(&path.join("token")), 0o644);
    assert!(is_memory(path));

    // With a user for all containers, or a group, the token is for them alone.
    let pod = pod_with(volume, r#","securityContext":{"runAsUser":1000}"#);
    node.set_up(&pod, &sources());
    let token = fs::metadata(path.join("token")).unwrap();
    assert_eq!((token.uid(), token.mode() & 0o777), (1000, 0o600));
    let pod = pod_with(volume, r#","securityContext":{"fsGroup":2000}"#);
    node.set_up(&pod, &sources());
    let token = fs::metadata(path.join("token")).unwrap();
    assert_eq!((token.uid(), token.gid(), token.mode() & 0o777), (0, 2000, 0o640));
}

#[test]
fn downward_volumes() {
    let node = Node::new();
    let volume = r#"{"name":"d","downwardAPI":{"items":[{"path":"name","fieldRef":{"fieldPath":"metadata.name"},"mode":256}]}}"#;
    let volumes = node.set_up(&pod(volume), &sources());
    let file = volumes["d"].host_path.join("name");
    assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("p", 0o400));
}

#[test]
fn errors_read_as_upstreams() {
    let node = Node::new();
    let sources = sources();
    let prefix = "MountVolume.SetUp failed for volume \"v\" : ";
    for (source, words) in [
        (r#""configMap":{"name":"gone"}"#, "configmap \"gone\" not found"),
        (r#""secret":{"secretName":"gone"}"#, "secret \"gone\" not found"),
        (
            r#""configMap":{"name":"cm","items":[{"key":"y","path":"y"}]}"#,
            "configmap references non-existent config key: y",
        ),
        (
            r#""secret":{"secretName":"sec","items":[{"key":"y","path":"y"}]}"#,
            "references non-existent secret key: y",
        ),
        (
            r#""configMap":{"name":"new"}"#,
            "failed to sync configmap \"new\" cache: it has not been looked up yet",
        ),
        (
            r#""configMap":{"name":"cm","items":[{"key":"a","path":"../../escape"}]}"#,
            "invalid path: must not contain '..': ../../escape",
        ),
        (
            r#""projected":{"sources":[{"configMap":{"name":"gone"}},{"secret":{"name":"gone"}}]}"#,
            "[configmap \"gone\" not found, secret \"gone\" not found]",
        ),
        (
            r#""projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}"#,
            "failed to fetch token: it has not been issued yet",
        ),
        (
            r#""projected":{"sources":[{"clusterTrustBundle":{"path":"t"}}]}"#,
            "a projected clusterTrustBundle is not supported by this node yet",
        ),
        (
            r#""emptyDir":{"medium":"HugePages"}"#,
            "emptyDir medium HugePages is not supported by this node yet",
        ),
        (
            r#""hostPath":{"path":"/etc/../etc"}"#,
            "hostPath \"/etc/../etc\" must be absolute and without '..'",
        ),
    ] {
        assert_eq!(node.error(&format!(r#"{{"name":"v",{source}}}"#), &sources), format!("{prefix}{words}"));
    }
    let unsupported = node.error(r#"{"name":"x","csi":{"driver":"d"}}"#, &sources);
    assert_eq!(unsupported, "volume \"x\": type csi is not supported by this node yet");
    let unsupported = node.error(r#"{"name":"x","image":{"reference":"i"}}"#, &sources);
    assert_eq!(unsupported, "volume \"x\": type image is not supported by this node yet");
    assert!(node.error(r#"{"name":"../x","emptyDir":{}}"#, &sources).contains("cannot be the name"));
}

#[test]
fn empty_dirs() {
    let node = Node::new();
    let pod = pod(
        r#"{"name":"disk","emptyDir":{}},{"name":"memory","emptyDir":{"medium":"Memory","sizeLimit":"1Mi"}},
        {"name":"bounded","emptyDir":{"medium":"Memory"}},{"name":"bare"}"#,
    );
    let volumes = node.set_up(&pod, &sources());
    for name in ["disk", "bare"] {
        let path = &volumes[name].host_path;
        assert_eq!((mode(path), is_memory(path), volumes[name].read_only), (0o777, false, false));
    }
    assert_eq!(
        volumes["disk"].host_path,
        node.dir.path().join("pods/uid-1/volumes/kubernetes.io~empty-dir/disk")
    );
    let size = |name: &str| {
        let stat = rustix::fs::statvfs(&volumes[name].host_path).unwrap();
        stat.f_blocks * stat.f_frsize
    };
    assert_eq!((size("memory"), size("bounded")), (1 << 20, 64 << 20));
    assert!(fs::write(volumes["memory"].host_path.join("big"), vec![0; 2 << 20]).is_err());
    fs::write(volumes["disk"].host_path.join("kept"), "x").unwrap();
    // What the pod made of its volume stays.
    fs::set_permissions(&volumes["disk"].host_path, fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(volumes["disk"].host_path.with_file_name(".late.new")).unwrap();
    node.set_up(&pod, &sources());
    assert!(volumes["disk"].host_path.join("kept").exists());
    assert_eq!(mode(&volumes["disk"].host_path), 0o700);
    // A crash came before the folder had its mode and its name.
    let late = node.set_up(&self::pod(r#"{"name":"late","emptyDir":{}}"#), &sources());
    assert_eq!(mode(&late["late"].host_path), 0o777);
}

#[test]
fn groups_own_volumes() {
    let node = Node::new();
    let pod = pod_with(
        r#"{"name":"e","emptyDir":{}},{"name":"m","emptyDir":{"medium":"Memory"}},{"name":"c","configMap":{"name":"cm","defaultMode":384}}"#,
        r#","securityContext":{"fsGroup":4321}"#,
    );
    let volumes = node.set_up(&pod, &sources());
    for name in ["e", "m"] {
        let found = fs::metadata(&volumes[name].host_path).unwrap();
        assert_eq!((found.gid(), found.mode() & 0o2770), (4321, 0o2770), "{name}");
    }
    let file = fs::metadata(volumes["c"].host_path.join("a")).unwrap();
    assert_eq!((file.gid(), file.mode() & 0o7777), (4321, 0o640));
    let before = fs::read_link(volumes["c"].host_path.join("..data")).unwrap();
    node.set_up(&pod, &sources());
    assert_eq!(fs::read_link(volumes["c"].host_path.join("..data")).unwrap(), before, "nothing to do");
}

#[test]
fn host_paths_are_checked() {
    let node = Node::new();
    let host = tempfile::tempdir().unwrap();
    let at = |name: &str| host.path().join(name);
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("dir")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let try_type = |path: PathBuf, kind: &str| {
        let volume = format!(r#"{{"name":"h","hostPath":{{"path":"{}","type":"{kind}"}}}}"#, path.display());
        node.volumes
            .set_up(&pod(&volume), &Sources::default())
            .map(|mut volumes| volumes.remove("h").unwrap())
    };
    for (name, kind) in [
        ("dir", "Directory"),
        ("file", "File"),
        ("socket", "Socket"),
        ("dir", ""),
        ("new/deep", "DirectoryOrCreate"),
        ("new/file", "FileOrCreate"),
        ("unchecked", ""),
    ] {
        assert_eq!(try_type(at(name), kind).unwrap(), Volume { host_path: at(name), read_only: false });
    }
    assert_eq!((mode(&at("new/deep")), mode(&at("new/file"))), (0o755, 0o644));
    assert!(try_type("/dev/null".into(), "CharDevice").is_ok());
    for (name, kind, words) in [
        ("file", "Directory", "a directory"),
        ("file", "DirectoryOrCreate", "a directory"),
        ("missing", "Directory", "a directory"),
        ("dir", "File", "a file"),
        ("dir", "FileOrCreate", "a file"),
        ("file", "Socket", "a socket file"),
        ("file", "CharDevice", "a character device"),
        ("file", "BlockDevice", "a block device"),
    ] {
        let error = try_type(at(name), kind).unwrap_err().to_string();
        let path = at(name);
        assert!(
            error.ends_with(&format!("hostPath type check failed: {} is not {words}", path.display())),
            "{error}"
        );
    }
    assert!(try_type(at("no/such/dir/file"), "FileOrCreate").is_err());
    assert!(try_type(at("file"), "Nonsense").is_err());
    node.volumes.tear_down("uid-1").unwrap();
    assert!(at("file").exists() && at("dir").exists(), "the host's files are the host's");
}

fn mount(json: &str) -> VolumeMount {
    serde_json::from_str(json).unwrap()
}

fn source(
    node: &Node,
    pod: &Pod,
    volumes: &BTreeMap<String, Volume>,
    index: usize,
    json: &str,
) -> Result<PathBuf, VolumeError> {
    let environment = [("NAME".to_owned(), "p".to_owned()), ("BAD".to_owned(), "../..".to_owned())];
    let request = MountRequest { container: "c", index, mount: &mount(json), environment: &environment };
    node.volumes.mount_source(pod, volumes, request)
}

#[test]
fn sub_paths_are_made_and_held_fast() {
    let node = Node::new();
    let pod = pod(r#"{"name":"e","emptyDir":{}},{"name":"c","configMap":{"name":"cm"}}"#);
    let volumes = node.set_up(&pod, &sources());
    let plain = source(&node, &pod, &volumes, 0, r#"{"name":"e","mountPath":"/m"}"#).unwrap();
    assert_eq!(plain, volumes["e"].host_path);
    let inner =
        source(&node, &pod, &volumes, 0, r#"{"name":"e","mountPath":"/m","subPath":"x/./y/"}"#).unwrap();
    assert_eq!(inner, node.dir.path().join("pods/uid-1/volume-subpaths/e/c/0"));
    assert_eq!(mode(&volumes["e"].host_path.join("x/y")), 0o777);
    fs::write(inner.join("file"), "held").unwrap();
    // The pod swaps the folder: what is bound stays what was checked.
    fs::rename(volumes["e"].host_path.join("x"), volumes["e"].host_path.join("old")).unwrap();
    symlink("/etc", volumes["e"].host_path.join("x")).unwrap();
    assert_eq!(fs::read_to_string(inner.join("file")).unwrap(), "held");
    let file = source(&node, &pod, &volumes, 1, r#"{"name":"c","mountPath":"/m","subPath":"a"}"#).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "1");
    assert_eq!(
        source(&node, &pod, &volumes, 1, r#"{"name":"c","mountPath":"/m","subPath":"a"}"#).unwrap(),
        file
    );
    let expanded =
        source(&node, &pod, &volumes, 2, r#"{"name":"e","mountPath":"/m","subPathExpr":"logs/$(NAME)"}"#)
            .unwrap();
    assert!(expanded.is_dir() && volumes["e"].host_path.join("logs/p").is_dir());
    node.volumes.tear_down("uid-1").unwrap();
    assert!(!node.volumes.pod_dir("uid-1").exists());
}

#[test]
fn sub_paths_do_not_lead_out() {
    let node = Node::new();
    let pod = pod(r#"{"name":"e","emptyDir":{}}"#);
    let volumes = node.set_up(&pod, &sources());
    let inside = &volumes["e"].host_path;
    symlink("/etc", inside.join("absolute")).unwrap();
    symlink("../../../../../../../../etc", inside.join("relative")).unwrap();
    symlink("loop", inside.join("loop")).unwrap();
    symlink("nowhere", inside.join("broken")).unwrap();
    symlink("target", inside.join("fine")).unwrap();
    fs::create_dir(inside.join("target")).unwrap();
    fs::write(inside.join("file"), "").unwrap();
    symlink("/proc/self/root", inside.join("magic")).unwrap();
    for (path, words) in [
        ("/etc", "must not be an absolute path"),
        ("../x", "must not contain '..'"),
        ("a/../../x", "must not contain '..'"),
        ("absolute", "leads out of the volume"),
        ("absolute/new", "leads out of the volume"),
        ("relative/passwd", "leads out of the volume"),
        ("magic/etc", "leads out of the volume"),
        ("loop", "circle of links"),
        ("broken", "leads nowhere"),
        ("file/x", "leads through a file"),
    ] {
        let error = source(
            &node,
            &pod,
            &volumes,
            0,
            &format!(r#"{{"name":"e","mountPath":"/m","subPath":"{path}"}}"#),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains(words), "{path}: {error}");
    }
    assert!(!Path::new("/etc/new").exists());
    for (expression, words) in [
        ("$(BAD)", "must not contain '..'"),
        ("$(UNKNOWN)", "missing value for \"UNKNOWN\""),
        ("/$(NAME)", "must not be an absolute path"),
    ] {
        let json = format!(r#"{{"name":"e","mountPath":"/m","subPathExpr":"{expression}"}}"#);
        let error = source(&node, &pod, &volumes, 0, &json).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(source(&node, &pod, &volumes, 0, r#"{"name":"e","mountPath":"/m","subPath":"fine"}"#).is_ok());
    let unknown = source(&node, &pod, &volumes, 0, r#"{"name":"z","mountPath":"/m"}"#);
    assert!(matches!(unknown, Err(VolumeError::Unknown(_))));
}

#[test]
fn pods_that_are_gone_are_cleaned_up() {
    let node = Node::new();
    let mut pod = pod(r#"{"name":"s","secret":{"secretName":"sec"}},{"name":"e","emptyDir":{}}"#);
    node.set_up(&pod, &sources());
    pod.metadata.uid = Some("uid-2".to_owned());
    let second = node.set_up(&pod, &sources());
    // As deep as a pod likes: more folders inside each other than there may be open files.
    let mut deep =
        rustix::fs::open(&second["e"].host_path, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty())
            .unwrap();
    for _ in 0..2000 {
        rustix::fs::mkdirat(&deep, "d", rustix::fs::Mode::from_raw_mode(0o700)).unwrap();
        deep =
            rustix::fs::openat(&deep, "d", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    }
    drop(deep);
    node.volumes.retain(&HashSet::from(["uid-1".to_owned()])).unwrap();
    assert!(node.volumes.pod_dir("uid-1").exists() && !node.volumes.pod_dir("uid-2").exists());
    assert!(node.volumes.tear_down("../pods").is_err());
    assert!(node.volumes.pod_dir("uid-1").exists());
}

#[test]
fn needs_name_everything_once() {
    let pod: Pod = serde_json::from_str(
        r#"{"spec":{"containers":[{"name":"c","env":[{"name":"X","valueFrom":{"configMapKeyRef":{"name":"m1","key":"k"}}}],
        "envFrom":[{"secretRef":{"name":"s1"}}]}],
        "initContainers":[{"name":"i","env":[{"name":"X","valueFrom":{"secretKeyRef":{"name":"s2","key":"k"}}}]}],
        "ephemeralContainers":[{"name":"e","envFrom":[{"configMapRef":{"name":"m2"}}]}],
        "volumes":[{"name":"a","configMap":{"name":"m1"}},{"name":"b","secret":{"secretName":"s3"}},
        {"name":"p","projected":{"sources":[{"serviceAccountToken":{"path":"t"}},{"configMap":{"name":"m3"}},{"secret":{"name":"s4"}}]}}]}}"#,
    )
    .unwrap();
    let needs = Volumes::needs(&pod);
    assert_eq!(needs.config_maps.iter().collect::<Vec<_>>(), ["m1", "m2", "m3"]);
    assert_eq!(needs.secrets.iter().collect::<Vec<_>>(), ["s1", "s2", "s3", "s4"]);
    assert_eq!(needs.tokens, [TokenKey { audience: String::new(), expiration_seconds: 3600 }].into());
}
