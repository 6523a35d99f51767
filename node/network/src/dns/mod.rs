//! DNS on this node: the cluster's names from memory, others from upstream.
//!
//! The server listens on an address that only this host has; pods and host processes reach it through the cluster's DNS
//! address. Names of the cluster are answered from an immutable [`Zone`] that is swapped as a whole. Until the first one is known,
//! they are answered with SERVFAIL: "no such name" would be remembered.

mod forward;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod message;
#[cfg(test)]
mod tests;
pub(crate) mod zone;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use forward::Forwarder;
use message::Question;
use zone::{Answer, Data, Zone};

use crate::error::NetworkError;

/// Where the server listens: local to every host.
pub(crate) const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 20, 10), 53);

/// How many TCP connections are served at once; further ones wait in the listener's queue.
const CONNECTIONS: usize = 256;
/// How long a TCP connection may be idle.
const IDLE: Duration = Duration::from_secs(10);
/// How many aliases are followed for one question.
const ALIASES: usize = 8;

/// Answers questions.
pub(crate) struct Resolver {
    zone: RwLock<Option<Arc<Zone>>>,
    /// In lower case, without the last dot; known before there is a zone.
    domain: String,
    serial: AtomicU64,
    queries: AtomicU64,
    forwarder: Forwarder,
}

/// What a question needs.
enum Step {
    /// Nothing more.
    Done(Message),
    /// An answer from upstream, and what precedes it.
    Upstream(Question, Vec<hickory_proto::rr::Record>),
}

impl Resolver {
    pub(crate) fn new(domain: &str, upstream: &[SocketAddr], dns_address: Ipv4Addr) -> Self {
        // A server that is ourselves would ask us, who would ask it.
        let ours = |server: &&SocketAddr| server.ip() != SERVER.0 && server.ip() != dns_address;
        Resolver {
            zone: RwLock::new(None),
            domain: domain.trim_matches('.').to_ascii_lowercase(),
            serial: AtomicU64::new(0),
            queries: AtomicU64::new(0),
            forwarder: Forwarder::new(upstream.iter().filter(ours).copied().collect()),
        }
    }

    /// Replaces all names of the cluster.
    pub(crate) fn set_zone(&self, zone: Zone) {
        self.serial.fetch_add(1, Ordering::Relaxed);
        *self.zone.write() = Some(Arc::new(zone));
    }

    /// How many queries were answered.
    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    /// The response to a query's bytes; `None` to what deserves none.
    pub(crate) async fn respond(&self, bytes: &[u8], udp: bool) -> Option<Vec<u8>> {
        match self.respond_now(bytes, udp) {
            Ok(response) => response,
            Err(later) => self.respond_later(later, udp).await,
        }
    }

    /// Responds if that takes no asking upstream; else gives what to ask.
    fn respond_now(&self, bytes: &[u8], udp: bool) -> Result<Option<Vec<u8>>, Box<Later>> {
        let turn = usize::try_from(self.queries.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
        let question = match message::parse(bytes) {
            Ok(question) => question,
            Err(response) => return Ok(response),
        };
        let query = question.message.clone();
        match self.step(question) {
            Step::Done(mut response) => {
                message::rotate(&mut response, turn);
                Ok(message::encode(&query, &response, udp))
            }
            Step::Upstream(question, before) => Err(Box::new(Later { query, question, before })),
        }
    }

    async fn respond_later(&self, later: Box<Later>, udp: bool) -> Option<Vec<u8>> {
        let Later { query, question, before } = *later;
        let answer = match self.forwarder.cached(&question) {
            Some(answer) => answer,
            None => self.forwarder.ask(&question, udp).await,
        };
        let mut response = answer;
        response.metadata.id = query.metadata.id;
        response.queries.clone_from(&query.queries);
        response.answers.splice(0..0, before);
        message::encode(&query, &response, udp)
    }

    /// Answers from the zone, following aliases as far as they stay in the cluster.
    fn step(&self, mut question: Question) -> Step {
        let zone = self.zone.read().clone();
        let serial = u32::try_from(self.serial.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let mut response = message::respond(&question.message, ResponseCode::NoError);
        let Some(mut owner) = question.message.queries.first().map(|query| query.name.clone()) else {
            return Step::Done(message::respond(&question.message, ResponseCode::FormErr));
        };
        let Some(zone) = zone else {
            if question.name == self.domain || question.name.ends_with(&format!(".{}", self.domain)) {
                return Step::Done(message::respond(&question.message, ResponseCode::ServFail));
            }
            return Step::Upstream(question, Vec::new());
        };
        for _ in 0..ALIASES {
            let answer = zone.answer(&question.name, message::kind(question.kind));
            if answer == Answer::Outside {
                return Step::Upstream(question, response.answers);
            }
            message::fill(&mut response, &zone, serial, &owner, &answer);
            let Some(target) = alias(&answer, question.kind) else { return Step::Done(response) };
            let (Some(query), Some(name)) = (question.message.queries.first_mut(), target) else { break };
            query.name = name.clone();
            question.name = message::lower(&name);
            owner = name;
        }
        Step::Done(message::respond(&question.message, ResponseCode::ServFail))
    }
}

/// Where an alias leads, if the answer is one and was not what was asked for. The inner `None`: to no name that DNS can have.
fn alias(answer: &Answer, asked: RecordType) -> Option<Option<Name>> {
    match answer {
        Answer::Records { data, .. } if !matches!(asked, RecordType::CNAME | RecordType::ANY) => {
            match data.as_slice() {
                [Data::Cname(target)] => Some(message::name(target)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A response that waits for upstream.
struct Later {
    query: Message,
    question: Question,
    before: Vec<hickory_proto::rr::Record>,
}

/// Binds the server's sockets and serves them until the set of tasks is dropped.
pub(crate) async fn serve(resolver: Arc<Resolver>) -> Result<JoinSet<()>, NetworkError> {
    let address = SocketAddr::from(SERVER);
    let failed = |source| NetworkError::Dns { address, source };
    let udp = UdpSocket::bind(address).await.map_err(failed)?;
    let tcp = TcpListener::bind(address).await.map_err(failed)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_udp(Arc::new(udp), resolver.clone()));
    tasks.spawn(serve_tcp(tcp, resolver));
    Ok(tasks)
}

/// Questions about the cluster are answered at once, in turn; only those that go upstream get tasks of their own, whose
/// number the forwarder bounds.
async fn serve_udp(socket: Arc<UdpSocket>, resolver: Arc<Resolver>) {
    let mut buffer = vec![0; 4096];
    let mut waiting = JoinSet::new();
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // Errors of a datagram sent before, such as "port unreachable".
            Err(error) => {
                tracing::debug!(%error, "DNS over UDP");
                continue;
            }
        };
        while waiting.try_join_next().is_some() {}
        match resolver.respond_now(buffer.get(..length).unwrap_or_default(), true) {
            Ok(Some(response)) => send(&socket, &response, peer).await,
            Ok(None) => {}
            Err(later) => {
                let (socket, resolver) = (socket.clone(), resolver.clone());
                waiting.spawn(async move {
                    if let Some(response) = resolver.respond_later(later, true).await {
                        send(&socket, &response, peer).await;
                    }
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, response: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(response, peer).await {
        tracing::debug!(%peer, %error, "DNS answer was not sent");
    }
}

async fn serve_tcp(listener: TcpListener, resolver: Arc<Resolver>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let resolver = resolver.clone();
                connections.spawn(async move {
                    if let Err(error) = serve_connection(stream, &resolver).await {
                        tracing::debug!(%peer, %error, "DNS over TCP");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "DNS cannot take a TCP connection");
                // Out of descriptors, most likely: some will be free again soon.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(mut stream: TcpStream, resolver: &Resolver) -> io::Result<()> {
    loop {
        let query = match timeout(IDLE, read_query(&mut stream)).await {
            Ok(Ok(query)) => query,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let Some(response) = resolver.respond(&query, false).await else { return Ok(()) };
        let length = u16::try_from(response.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes(), response.as_slice()].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

async fn read_query(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut query = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut query).await?;
    Ok(query)
}
