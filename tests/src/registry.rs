//! Debian's docker-registry on loopback, with an image pushed to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;

use crate::host::Host;
use crate::image::{Blob, Image, MANIFEST};
use crate::{eventually, http};

/// A running registry; it ends with this value.
pub struct Registry {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Registry {
    /// Starts it in `host`'s network, on the given port of loopback.
    pub async fn start(host: &Host, port: u16) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("storage");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
                storage.display()
            ),
        )?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let child = host
            .command("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("docker-registry does not start: install it (cargo xtask setup)")?;
        let registry = Self { child, address, _dir: dir };
        eventually("the registry answers", Duration::from_secs(30), || async {
            Ok(http::get(address, "/v2/").await.ok())
        })
        .await?;
        Ok(registry)
    }

    /// `localhost:<port>/<name>`.
    pub fn reference(&self, name: &str) -> String {
        format!("localhost:{}/{name}", self.address.port())
    }

    /// Pushes an image as `repository:tag`.
    pub async fn push(&self, image: &Image, repository: &str, tag: &str) -> Result<()> {
        for blob in image.layers.iter().chain([&image.config]) {
            self.push_blob(repository, blob).await?;
        }
        let request = Request::put(format!("/v2/{repository}/manifests/{tag}"))
            .header("host", self.address.to_string())
            .header("content-type", MANIFEST)
            .body(Full::from(Bytes::from(image.manifest.bytes.clone())))?;
        self.expect(request, 201).await.map(drop)
    }

    async fn push_blob(&self, repository: &str, blob: &Blob) -> Result<()> {
        let request = Request::post(format!("/v2/{repository}/blobs/uploads/"))
            .header("host", self.address.to_string())
            .header("content-length", "0")
            .body(Full::default())?;
        let begun = self.expect(request, 202).await?;
        let location = begun.headers().get("location").context("the registry names no upload")?.to_str()?;
        let place: hyper::Uri = location.parse()?;
        let path = place.path_and_query().context("the upload has no path")?.as_str();
        let mark = if path.contains('?') { '&' } else { '?' };
        let request = Request::put(format!("{path}{mark}digest={}", blob.digest))
            .header("host", self.address.to_string())
            .header("content-type", "application/octet-stream")
            .body(Full::from(Bytes::from(blob.bytes.clone())))?;
        self.expect(request, 201).await.map(drop)
    }

    async fn expect(&self, request: Request<Full<Bytes>>, status: u16) -> Result<hyper::Response<Bytes>> {
        let what = format!("{} {}", request.method(), request.uri());
        let response = http::send(self.address, request).await?;
        if response.status().as_u16() != status {
            bail!("{what}: {} {}", response.status(), String::from_utf8_lossy(response.body()));
        }
        Ok(response)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
