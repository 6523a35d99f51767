//! A client: one connection, HTTP/1.1 over TLS with keep-alive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::server;

pub(crate) const JSON: &str = "application/json";

/// A connection.
pub(crate) struct Client {
    requests: SendRequest<Full<Bytes>>,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// From the request to the first byte of the body.
    pub(crate) first_byte: Duration,
    /// From the request to the last.
    pub(crate) whole: Duration,
}

impl Client {
    pub(crate) async fn connect(tls: &Arc<rustls::ClientConfig>) -> Result<Client> {
        let stream = TcpStream::connect(server::address()).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Client { requests })
    }

    async fn begin(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        accept: &str,
        body: Bytes,
    ) -> Result<http::Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, kind)
            .header(header::ACCEPT, accept)
            .body(Full::new(body))?;
        self.requests.ready().await?;
        Ok(self.requests.send_request(request).await?)
    }

    /// Makes a request and reads all of the answer.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        accept: &str,
        body: Bytes,
    ) -> Result<Answer> {
        let began = Instant::now();
        let answer = self.begin(method, path, kind, accept, body).await?;
        let status = answer.status().as_u16();
        let (mut incoming, mut parts, mut first_byte) = (answer.into_body(), Vec::new(), None);
        while let Some(frame) = incoming.frame().await {
            first_byte.get_or_insert_with(|| began.elapsed());
            if let Ok(data) = frame?.into_data() {
                parts.push(data);
            }
        }
        let whole = began.elapsed();
        let body = if parts.len() == 1 { parts.remove(0) } else { parts.concat().into() };
        Ok(Answer { status, body, first_byte: first_byte.unwrap_or(whole), whole })
    }

    /// The same; anything but success is an error.
    pub(crate) async fn done(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<Answer> {
        let answer = self.send(method, path, kind, JSON, body).await?;
        if answer.status >= 300 {
            bail!("{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(answer)
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, JSON, JSON, Bytes::new()).await
    }

    /// Begins a watch; gives the stream of its events.
    pub(crate) async fn watch(mut self, path: &str) -> Result<(Client, Incoming)> {
        let answer = self.begin(Method::GET, path, JSON, JSON, Bytes::new()).await?;
        if answer.status() != 200 {
            bail!("{path}: {}", answer.status());
        }
        let body = answer.into_body();
        Ok((self, body))
    }
}
