//! The files that the node makes for a pod's containers: /etc/hosts, /etc/hostname, /etc/resolv.conf.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};

/// What the files say.
pub(crate) struct Contents {
    /// The pod's host name.
    pub hostname: String,
    /// The pod's address; none with the host's network.
    pub pod_ip: Option<String>,
    /// The whole of resolv.conf.
    pub resolv_conf: String,
    /// The cluster's domain.
    pub domain: String,
}

/// The files of one pod, ready to be bound: (path in the container, path on the host).
pub(crate) struct Files {
    list: Vec<(&'static str, PathBuf)>,
}

impl Files {
    /// Writes the files into `dir`. With the host's network /etc/hosts is the host's own, with what the pod adds.
    pub(crate) fn write(dir: &Path, pod: &Pod, contents: &Contents) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut list = Vec::new();
        let texts = [
            ("/etc/hosts", "hosts", hosts(pod, contents)),
            ("/etc/hostname", "hostname", format!("{}\n", contents.hostname)),
            ("/etc/resolv.conf", "resolv.conf", contents.resolv_conf.clone()),
        ];
        for (target, name, text) in texts {
            let path = dir.join(name);
            // Written in place: containers that run hold the file itself.
            if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                fs::write(&path, text)?;
            }
            list.push((target, path));
        }
        Ok(Self { list })
    }

    /// Those that the container does not mount something of its own over.
    pub(crate) fn for_container<'a>(
        &'a self,
        container: &'a Container,
    ) -> impl Iterator<Item = (&'static str, &'a Path)> {
        let mounts = container.volume_mounts.as_deref().unwrap_or_default();
        self.list
            .iter()
            .filter(move |(target, _)| !mounts.iter().any(|m| m.mount_path == *target))
            .map(|(target, path)| (*target, path.as_path()))
    }
}

fn hosts(pod: &Pod, contents: &Contents) -> String {
    let mut text = match &contents.pod_ip {
        None => fs::read_to_string("/etc/hosts").unwrap_or_default(),
        Some(ip) => {
            let names = match subdomain(pod, &contents.domain) {
                Some(domain) => format!("{}.{domain}\t{}", contents.hostname, contents.hostname),
                None => contents.hostname.clone(),
            };
            format!(
                "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                 fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n{ip}\t{names}\n"
            )
        }
    };
    let aliases = pod.spec.as_ref().and_then(|s| s.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")));
    }
    text
}

fn subdomain(pod: &Pod, domain: &str) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_deref().filter(|s| !s.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref()?;
    Some(format!("{subdomain}.{namespace}.svc.{domain}"))
}

/// The host name of a pod: its `hostname`, or its name, cut to what the kernel takes.
pub(crate) fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let name = spec.and_then(|s| s.hostname.clone()).filter(|h| !h.is_empty()).or(pod.metadata.name.clone());
    let name: String = name.unwrap_or_default().chars().take(63).collect();
    name.trim_end_matches(['-', '.']).to_owned()
}
