//! A bucket of an S3-compatible store. Objects are uploaded in parts, so that they appear when they are complete, of any
//! size, with a few kilobytes of memory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rusty_s3::actions::{
    CompleteMultipartUpload, CompleteMultipartUploadResponse, CreateMultipartUpload, ListObjectsV2,
    ListObjectsV2Response, S3Action, UploadPart,
};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, SeekFrom};
use tokio_util::io::ReaderStream;
use url::Url;

/// Bytes of a part; an object has 10,000 at most, so that this is enough for 640 GB.
const PART_BYTES: u64 = 64 << 20;
/// How long a signed request may be used.
const SIGNED_FOR: Duration = Duration::from_secs(3600);
/// Answers that are read whole are lists and errors; a list has a thousand names.
const MAX_ANSWER: usize = 4 << 20;

type Body = BoxBody<Bytes, std::io::Error>;

/// A bucket, and the beginning of the keys in it.
pub struct S3 {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    bucket: Bucket,
    prefix: String,
    credentials: Credentials,
}

/// Why the bucket did not do it.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The configuration is wrong.
    #[error("{0}")]
    Options(String),
    /// No answer.
    #[error("{url}: {why}")]
    NoAnswer {
        /// Without the signature.
        url: String,
        /// Why.
        why: String,
    },
    /// An answer that says no.
    #[error("{url}: the store answers {status}: {body}")]
    Refused {
        /// Without the signature.
        url: String,
        /// HTTP's status.
        status: u16,
        /// What else it says.
        body: String,
    },
    /// The file on this side.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The credentials in `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if set, `AWS_SESSION_TOKEN`.
pub fn credentials_from_env() -> Option<Credentials> {
    Credentials::from_env()
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The credentials stay out.
        f.debug_struct("S3")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket.name(), self.prefix)
    }
}

impl S3 {
    /// The bucket of `location`, which is `s3://bucket/prefix`, at `endpoint` (`https://host`, path-style addressing) in
    /// `region`. Plain HTTP is for stores on the same host.
    pub fn new(
        endpoint: &str,
        region: &str,
        location: &str,
        credentials: Credentials,
    ) -> Result<S3, S3Error> {
        let wrong = |what: String| S3Error::Options(what);
        let rest = location.strip_prefix("s3://");
        let rest = rest.ok_or_else(|| wrong(format!("{location} does not begin with s3://")))?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let endpoint: Url = endpoint.parse().map_err(|error| wrong(format!("{endpoint}: {error}")))?;
        let bucket = Bucket::new(endpoint, UrlStyle::Path, name.to_owned(), region.to_owned())
            .map_err(|error| wrong(format!("{location}: {error}")))?;
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(S3 { client: client()?, bucket, prefix, credentials })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Uploads a file.
    pub(crate) async fn put(&self, name: &str, path: &Path) -> Result<(), S3Error> {
        let key = self.key(name);
        let credentials = Some(&self.credentials);
        let create = CreateMultipartUpload::new(&self.bucket, credentials, &key).sign(SIGNED_FOR);
        let answer = self.text(Method::POST, create, empty(), 0).await?;
        let upload =
            CreateMultipartUpload::parse_response(&answer).map_err(|error| self.unreadable(error))?;
        let upload = upload.upload_id();
        let done = self.put_parts(&key, upload, path).await;
        if done.is_err() {
            // Parts would lie there, and be paid for, until somebody looks.
            let abort = self.bucket.abort_multipart_upload(credentials, &key, upload).sign(SIGNED_FOR);
            if let Err(error) = self.text(Method::DELETE, abort, empty(), 0).await {
                tracing::warn!(%error, "the parts of an upload that failed are left");
            }
        }
        done
    }

    async fn put_parts(&self, key: &str, upload: &str, path: &Path) -> Result<(), S3Error> {
        let credentials = Some(&self.credentials);
        let failed = |source| S3Error::File { path: path.to_owned(), source };
        let len = tokio::fs::metadata(path).await.map_err(failed)?.len();
        let mut tags = Vec::new();
        let mut from = 0;
        // Also an empty file has a part.
        while from < len || tags.is_empty() {
            let size = PART_BYTES.min(len - from);
            let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
            file.seek(SeekFrom::Start(from)).await.map_err(failed)?;
            let stream = ReaderStream::with_capacity(file.take(size), 64 << 10).map_ok(Frame::data);
            let number = u16::try_from(tags.len() + 1).map_err(|_| self.unreadable("too many parts"))?;
            let url = UploadPart::new(&self.bucket, credentials, key, number, upload).sign(SIGNED_FOR);
            let answer = self.ask(Method::PUT, url, BodyExt::boxed(StreamBody::new(stream)), size).await?;
            let tag = answer.headers().get(hyper::header::ETAG).and_then(|tag| tag.to_str().ok());
            tags.push(tag.ok_or_else(|| self.unreadable("a part without an ETag"))?.to_owned());
            from += size;
        }
        let tags = tags.iter().map(String::as_str);
        let complete = CompleteMultipartUpload::new(&self.bucket, credentials, key, upload, tags);
        let url = complete.sign(SIGNED_FOR);
        let body = complete.body();
        let size = body.len() as u64;
        let answer = self.text(Method::POST, url, full(body), size).await?;
        // This one may say 200 and an error in the text.
        CompleteMultipartUploadResponse::parse(&answer).map(drop).map_err(|_| self.unreadable(answer))
    }

    /// The names below the prefix.
    pub(crate) async fn list(&self) -> Result<Vec<String>, S3Error> {
        let mut names = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut action = self.bucket.list_objects_v2(Some(&self.credentials));
            action.with_prefix(&self.prefix);
            if let Some(token) = &next {
                action.with_continuation_token(token);
            }
            let answer = self.text(Method::GET, action.sign(SIGNED_FOR), empty(), 0).await?;
            let page: ListObjectsV2Response =
                ListObjectsV2::parse_response(&answer).map_err(|error| self.unreadable(error))?;
            names.extend(
                page.contents.iter().filter_map(|o| Some(o.key.strip_prefix(&self.prefix)?.to_owned())),
            );
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(names);
            }
        }
    }

    /// Fetches an object into a file.
    pub(crate) async fn get(&self, name: &str, path: &Path) -> Result<(), S3Error> {
        let failed = |source| S3Error::File { path: path.to_owned(), source };
        let url = self.bucket.get_object(Some(&self.credentials), &self.key(name)).sign(SIGNED_FOR);
        let shown = shown(&url);
        let mut body = self.ask(Method::GET, url, empty(), 0).await?.into_body();
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path).await;
        let mut file = file.map_err(failed)?;
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|why| S3Error::NoAnswer { url: shown.clone(), why: why.to_string() })?;
            if let Ok(data) = frame.into_data() {
                file.write_all(&data).await.map_err(failed)?;
            }
        }
        file.sync_all().await.map_err(failed)
    }

    /// Deletes an object; S3 does not mind if there is none.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), S3Error> {
        let url = self.bucket.delete_object(Some(&self.credentials), &self.key(name)).sign(SIGNED_FOR);
        self.text(Method::DELETE, url, empty(), 0).await.map(drop)
    }

    fn unreadable(&self, what: impl fmt::Display) -> S3Error {
        S3Error::NoAnswer { url: self.to_string(), why: format!("the answer cannot be understood: {what}") }
    }

    async fn text(&self, method: Method, url: Url, body: Body, len: u64) -> Result<String, S3Error> {
        let shown = shown(&url);
        let answer = self.ask(method, url, body, len).await?;
        text(answer).await.map_err(|why| S3Error::NoAnswer { url: shown, why })
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        body: Body,
        len: u64,
    ) -> Result<Response<Incoming>, S3Error> {
        let shown = shown(&url);
        let no_answer = |why: String| S3Error::NoAnswer { url: shown.clone(), why };
        let request = Request::builder().method(method).uri(url.as_str());
        let request = request.header(hyper::header::CONTENT_LENGTH, len).body(body);
        let request = request.map_err(|error| no_answer(error.to_string()))?;
        let answer = tokio::time::timeout(SIGNED_FOR, self.client.request(request)).await;
        let answer = answer.map_err(|_| no_answer("no answer within an hour".to_owned()))?;
        let answer = answer.map_err(|error| no_answer(causes(&error)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let body = text(answer).await.unwrap_or_default();
        Err(S3Error::Refused { url: shown, status, body })
    }
}

/// A URL without its signature, for messages.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.to_string()
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

async fn text(answer: Response<Incoming>) -> Result<String, String> {
    let body =
        Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

fn full(body: String) -> Body {
    Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed()
}

fn empty() -> Body {
    full(String::new())
}

fn client() -> Result<Client<HttpsConnector<HttpConnector>, Body>, S3Error> {
    let mut roots = rustls::RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if usable == 0 {
        tracing::warn!("the host has no CA certificates; object stores over HTTPS cannot be trusted");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| S3Error::Options(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = hyper_rustls::HttpsConnectorBuilder::new();
    let connector = connector.with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}
