//! Names outside of the cluster: the question goes on as it came to the upstream servers, one after the other, and the
//! answer comes back as it is, kept for a short while.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::message::{Question, respond};

/// How long one upstream server has to answer.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How many questions may be upstream at once; further ones are told to try again (SERVFAIL).
const IN_FLIGHT: usize = 1024;
/// How many answers are kept.
const CACHED: usize = 4096;
/// How long an answer is kept at most.
const KEPT_AT_MOST: Duration = Duration::from_secs(30);

/// What makes two questions the same: name, type, and whether signatures or unchecked data are wanted.
type Key = (String, u16, bool, bool);

/// Asks upstream.
pub(super) struct Forwarder {
    servers: Vec<SocketAddr>,
    in_flight: Semaphore,
    cache: Mutex<HashMap<Key, Kept>>,
}

struct Kept {
    message: Message,
    since: Instant,
    until: Instant,
}

impl Forwarder {
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Forwarder { servers, in_flight: Semaphore::new(IN_FLIGHT), cache: Mutex::new(HashMap::new()) }
    }

    /// The kept answer to a question, if there is one.
    pub(super) fn cached(&self, question: &Question) -> Option<Message> {
        let now = Instant::now();
        let cache = self.cache.lock();
        let kept = cache.get(&key(question)).filter(|kept| kept.until > now)?;
        let mut message = kept.message.clone();
        let age = u32::try_from(now.duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
        sections.into_iter().flatten().for_each(|record| record.ttl = record.ttl.saturating_sub(age));
        Some(readdress(message, question))
    }

    /// Asks the servers in order; SERVFAIL if none answers, REFUSED if there are none. `udp`: how the question came.
    pub(super) async fn ask(&self, question: &Question, udp: bool) -> Message {
        if self.servers.is_empty() {
            return respond(&question.message, ResponseCode::Refused);
        }
        let Ok(_permit) = self.in_flight.try_acquire() else {
            return respond(&question.message, ResponseCode::ServFail);
        };
        for server in &self.servers {
            match timeout(SERVER_TIMEOUT, exchange(*server, question, udp)).await {
                Ok(Ok(answer)) if answer.metadata.response_code != ResponseCode::ServFail => {
                    self.keep(question, &answer);
                    return readdress(answer, question);
                }
                Ok(Ok(_)) => tracing::debug!(%server, name = question.name, "upstream server failed"),
                Ok(Err(error)) => {
                    tracing::debug!(%server, name = question.name, %error, "upstream server failed")
                }
                Err(_) => tracing::debug!(%server, name = question.name, "upstream server is silent"),
            }
        }
        respond(&question.message, ResponseCode::ServFail)
    }

    /// Keeps whole answers as long as all their records hold; answers of "nothing" as long as their SOA says.
    fn keep(&self, question: &Question, answer: &Message) {
        let good = matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
        let records = answer.answers.iter().chain(&answer.authorities);
        let Some(ttl) = records.map(|record| record.ttl).min().filter(|ttl| *ttl > 0) else { return };
        if !good || answer.metadata.truncation {
            return;
        }
        let since = Instant::now();
        let until = since + KEPT_AT_MOST.min(Duration::from_secs(ttl.into()));
        let mut cache = self.cache.lock();
        if cache.len() >= CACHED {
            cache.retain(|_, kept| kept.until > since);
        }
        if cache.len() < CACHED {
            cache.insert(key(question), Kept { message: answer.clone(), since, until });
        }
    }
}

fn key(question: &Question) -> Key {
    let signed = question.message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    let unchecked = question.message.metadata.checking_disabled;
    (question.name.clone(), question.kind.into(), signed, unchecked)
}

/// Makes an answer one to this very question: its number, and the name as it was spelled.
fn readdress(mut answer: Message, question: &Question) -> Message {
    answer.metadata.id = question.message.metadata.id;
    answer.queries.clone_from(&question.message.queries);
    if question.message.edns.is_none() {
        answer.edns = None;
    }
    answer
}

async fn exchange(server: SocketAddr, question: &Question, udp: bool) -> io::Result<Message> {
    let mut query = question.message.clone();
    // A number that nobody can guess, so that nobody can answer in the server's place.
    query.metadata.id = rand::random();
    let bytes = query.to_vec().map_err(io::Error::other)?;
    let answers = |answer: &Message| answer.metadata.id == query.metadata.id && same_question(answer, &query);
    if udp {
        let any: SocketAddr = if server.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        socket.send(&bytes).await?;
        let mut buffer = vec![0; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // What is not the answer to this question is not from the server: wait on.
            if let Ok(answer) = Message::from_vec(buffer.get(..length).unwrap_or_default())
                && answers(&answer)
            {
                return Ok(answer);
            }
        }
    }
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(io::Error::other)?;
    if answers(&answer) { Ok(answer) } else { Err(io::Error::other("the answer is to another question")) }
}

fn same_question(answer: &Message, query: &Message) -> bool {
    let asked = |message: &Message| message.queries.first().map(|q| (q.name.to_lowercase(), q.query_type));
    asked(answer) == asked(query)
}
