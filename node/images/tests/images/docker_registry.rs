//! End to end with the distribution project's own registry, where Debian's `docker-registry` is installed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use carrack_images::{Digest, PullFailure, PullOptions};

use crate::registry::{gzip, layer};
use crate::store;

/// The registry's process, ended with the test.
struct Server {
    child: Child,
    address: SocketAddr,
    _data: tempfile::TempDir,
}

/// An address of loopback that this process has for itself. A port of 127.0.0.1 that nobody listens at may become the near
/// end of somebody's connection at any time.
fn own_loopback() -> Ipv4Addr {
    let [_, b, c, d] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | b, c, d)
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to be done about a process that has ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Option<Server> {
        let data = tempfile::tempdir().unwrap();
        let address = TcpListener::bind((own_loopback(), 0)).unwrap().local_addr().unwrap();
        let configuration = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            data.path().join("data").display()
        );
        let file = data.path().join("config.yml");
        std::fs::write(&file, configuration).unwrap();
        let command = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = match command {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            other => other.unwrap(),
        };
        let server = Server { child, address, _data: data };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "docker-registry listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    /// One request; gives the status line and the headers.
    fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
        answer
    }

    fn push_blob(&self, bytes: &[u8]) -> String {
        let started = self.request("POST", "/v2/team/app/blobs/uploads/", "text/plain", b"");
        let location = started.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap();
        let path = location.trim().splitn(4, '/').nth(3).unwrap();
        let digest = Digest::of(bytes);
        self.request("PUT", &format!("/{path}&digest={digest}"), "application/octet-stream", bytes);
        format!(r#""digest":"{digest}","size":{}"#, bytes.len())
    }
}

#[tokio::test]
async fn pulls_from_the_real_registry() {
    let Some(server) = tokio::task::spawn_blocking(Server::start).await.unwrap() else {
        eprintln!("docker-registry is not installed: nothing to test against");
        return;
    };
    let layers = [layer(&[("bin/sh", &[5; 300_000])]), layer(&[("etc/motd", b"ahoy")])];
    let ids = layers.each_ref().map(|layer| format!("\"{}\"", Digest::of(layer)));
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","config":{{"Cmd":["/bin/sh"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let config = server.push_blob(config.as_bytes());
    let pushed = layers.each_ref().map(|layer| server.push_blob(&gzip(layer)));
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let list = pushed.map(|layer| {
        format!(r#"{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip",{layer}}}"#)
    });
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"application/vnd.docker.container.image.v1+json",{config}}},"layers":[{}]}}"#,
        list.join(",")
    );
    server.request("PUT", "/v2/team/app/manifests/v1", kind, manifest.as_bytes());

    let (_dir, store) = store();
    let name = format!("{}/team/app", server.address);
    let image = store.pull(&format!("{name}:v1"), &[], &PullOptions::default()).await.unwrap();
    assert_eq!(image.config.cmd, ["/bin/sh"]);
    assert_eq!(image.digests, [format!("{name}@{}", Digest::of(manifest.as_bytes()))]);
    let found = store.layers(&image);
    assert_eq!(std::fs::read(found[0].join("etc/motd")).unwrap(), b"ahoy");
    assert_eq!(std::fs::read(found[1].join("bin/sh")).unwrap(), [5; 300_000]);
    let missing = store.pull(&format!("{name}:v2"), &[], &PullOptions::default()).await.unwrap_err();
    assert!(matches!(missing.failure(), Some(PullFailure::NotFound(_))), "{missing}");
}
