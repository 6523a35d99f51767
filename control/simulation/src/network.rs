//! The network between members: every message can be lost, delayed, doubled, overtaken by others, or cut off, in one
//! direction or both; and its receiver can be gone, or stand still.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use carrack_store::Store;
use carrack_store::peer::message::{AppendAnswer, Envelope, Request, Response};
use carrack_store::peer::{Peer, Transport, TransportError};
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::disk::SimDisk;
use crate::trace::Trace;
use crate::watchdog::Watchdog;

/// A machine; not its member id, which the store chooses.
pub type Node = usize;

/// How messages fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// The shortest and the longest way.
    pub delay: (Duration, Duration),
    /// Of a thousand messages, how many are lost, in each direction.
    pub lost: u32,
    /// Of a thousand messages, how many come twice.
    pub doubled: u32,
}

impl Default for Weather {
    fn default() -> Weather {
        // tokio's timers count milliseconds.
        Weather { delay: (Duration::from_millis(1), Duration::from_millis(3)), lost: 0, doubled: 0 }
    }
}

/// One life of a member, from its start to its end.
#[derive(Clone)]
pub struct Life {
    /// Which one; lives of all members are counted together.
    pub number: u64,
    /// What it runs on.
    pub disk: Arc<SimDisk>,
    /// The store.
    pub store: Store,
}

struct State {
    random: StdRng,
    weather: Weather,
    /// From whom to whom nothing comes through.
    cut: BTreeSet<(Node, Node)>,
    /// Who stands still, and until when.
    frozen: BTreeMap<Node, Instant>,
    /// The life of each machine, and its disk; from before its member is open.
    current: BTreeMap<Node, (u64, Arc<SimDisk>)>,
    lives: BTreeMap<Node, Life>,
    /// Acknowledges entries without handing them over: a network that no store survives.
    false_answers: bool,
    messages: u64,
}

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    trace: Arc<Trace>,
    watchdog: Arc<Watchdog>,
}

/// The address of a machine.
pub fn url(node: Node) -> String {
    format!("http://m{node}:2380")
}

fn node_of(peer: &Peer) -> Option<Node> {
    let url = peer.urls.first()?;
    url.strip_prefix("http://m")?.strip_suffix(":2380")?.parse().ok()
}

fn millis(random: &mut StdRng, least: Duration, most: Duration) -> Duration {
    Duration::from_millis(random.random_range(least.as_millis() as u64..=most.as_millis() as u64))
}

/// What becomes of a message on its way in one direction.
enum Fate {
    Lost,
    Comes { after: Duration, again: Option<Duration> },
}

impl Network {
    /// A network in which all is well.
    pub fn new(seed: u64, trace: Arc<Trace>, watchdog: Arc<Watchdog>) -> Network {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            weather: Weather::default(),
            cut: BTreeSet::new(),
            frozen: BTreeMap::new(),
            current: BTreeMap::new(),
            lives: BTreeMap::new(),
            false_answers: false,
            messages: 0,
        };
        Network { state: Arc::new(Mutex::new(state)), trace, watchdog }
    }

    /// Changes how messages fare.
    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// Lets nothing through in one direction.
    pub fn cut(&self, from: Node, to: Node) {
        self.state.lock().cut.insert((from, to));
    }

    /// Ends all cuts.
    pub fn mend(&self) {
        self.state.lock().cut.clear();
    }

    /// Lets a machine stand still for some time: what comes waits, and what it wants to say.
    pub fn freeze(&self, node: Node, time: Duration) {
        self.state.lock().frozen.insert(node, Instant::now() + time);
    }

    /// Starts to acknowledge entries that never arrive.
    pub fn answer_falsely(&self) {
        self.state.lock().false_answers = true;
    }

    /// A machine starts a life. It can talk to others, but is not there for them yet.
    pub fn prepare(&self, node: Node, life: u64, disk: &Arc<SimDisk>) {
        self.state.lock().current.insert(node, (life, Arc::clone(disk)));
    }

    /// A machine's member is open.
    pub fn begin(&self, node: Node, life: Life) {
        self.state.lock().lives.insert(node, life);
    }

    /// A machine's life is over; messages to and from it are lost from now on.
    pub fn end(&self, node: Node) {
        let mut state = self.state.lock();
        state.lives.remove(&node);
        state.current.remove(&node);
    }

    /// The run is over: lets go of the members, which hold on to the network.
    pub fn end_all(&self) {
        let (lives, current) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.lives), std::mem::take(&mut state.current))
        };
        drop((lives, current));
    }

    /// The life of a machine, unless its power is gone.
    pub fn life(&self, node: Node) -> Option<Life> {
        let life = self.state.lock().lives.get(&node).cloned();
        life.filter(|life| !life.disk.is_dead())
    }

    /// How many messages were sent.
    pub fn messages(&self) -> u64 {
        self.state.lock().messages
    }

    /// The way out for one life of a machine.
    pub fn link(&self, node: Node, life: u64) -> Link {
        Link { network: self.clone(), node, life }
    }

    /// Waits until a machine does not stand still and its disk has done what was asked of it.
    pub async fn ready(&self, node: Node) {
        loop {
            let busy = {
                let state = self.state.lock();
                let disk = state.current.get(&node).and_then(|(_, disk)| disk.busy_until());
                disk.max(state.frozen.get(&node).copied())
            };
            match busy.filter(|until| *until > Instant::now()) {
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }

    fn is_alive(&self, node: Node, life: u64) -> bool {
        let current = self.state.lock().current.get(&node).cloned();
        current.is_some_and(|(now, disk)| now == life && !disk.is_dead())
    }

    fn fate(&self, from: Node, to: Node) -> Fate {
        let mut state = self.state.lock();
        state.messages += 1;
        let Weather { delay: (least, most), lost, doubled } = state.weather;
        if state.cut.contains(&(from, to)) || state.random.random_range(0..1000) < lost {
            return Fate::Lost;
        }
        let after = millis(&mut state.random, least, most);
        let again = (state.random.random_range(0..1000) < doubled)
            .then(|| millis(&mut state.random, least, most * 4));
        Fate::Comes { after, again }
    }

    fn answers_falsely(&self, message: &Envelope) -> bool {
        let mut state = self.state.lock();
        let entries = matches!(&message.request, Request::Append(append) if !append.entries.is_empty());
        entries && state.false_answers && state.random.random_range(0..10) == 0
    }
}

/// Held by who hands over, in the order of sending: tokio's mutex is fair.
type Order = tokio::sync::Mutex<()>;

/// After this time keep-alives notice that a connection is broken, and all that waits on it fails.
const BROKEN: Duration = Duration::from_secs(10);

/// Messages with entries that are under way at a time.
const PIPELINE: usize = 4;

/// The way from one life of a machine to the others.
pub struct Link {
    network: Network,
    node: Node,
    life: u64,
}

/// Never returns: who waits has its own timeout.
async fn never<T>() -> T {
    std::future::pending().await
}

impl Link {
    /// Sends a message and waits for the answer. With `order`, what is sent first arrives first.
    async fn exchange(
        &self,
        to: Node,
        message: Envelope,
        order: Option<&Order>,
    ) -> Result<Response, TransportError> {
        let Link { network, node, life } = self;
        network.ready(*node).await;
        if !network.is_alive(*node, *life) {
            return never().await;
        }
        let text = describe(&message.request);
        let trace = &network.trace;
        if network.answers_falsely(&message) {
            trace.event(format_args!("m{node} → m{to} {text}: answered falsely"));
            return Ok(Response::Append(AppendAnswer::Done));
        }
        let Fate::Comes { after, again } = network.fate(*node, to) else {
            trace.event(format_args!("m{node} → m{to} {text}: lost"));
            return never().await;
        };
        if let Some(again) = again.filter(|_| may_come_twice(&message.request)) {
            let (network, message, from) = (network.clone(), message.clone(), *node);
            tokio::spawn(async move {
                sleep(again).await;
                let _ = network.hand_over(from, to, message, "again").await;
            });
        }
        let arrival = Instant::now() + after;
        let turn = match order {
            Some(order) => Some(order.lock().await),
            None => None,
        };
        sleep_until(arrival).await;
        // Who does not wait for the answer any more does not take the message back.
        let hand_over = tokio::spawn({
            let (network, from) = (network.clone(), *node);
            async move { network.hand_over(from, to, message, "").await }
        });
        let answer = match hand_over.await {
            Ok(answer) => answer?,
            Err(error) => return Err(TransportError::NoAnswer(error.to_string())),
        };
        drop(turn);
        match network.fate(to, *node) {
            Fate::Lost => {
                trace.event(format_args!("m{to} → m{node} answer to {text}: lost"));
                return never().await;
            }
            Fate::Comes { after, .. } => sleep(after).await,
        }
        network.ready(*node).await;
        if !network.is_alive(*node, *life) {
            return never().await;
        }
        Ok(answer?)
    }
}

impl Link {
    async fn within(
        &self,
        limit: Duration,
        to: &Peer,
        message: Envelope,
        order: Option<&Order>,
    ) -> Result<Response, TransportError> {
        let Some(to) = node_of(to) else {
            return Err(TransportError::Undelivered(format!("no machine has the addresses of {to:?}")));
        };
        match timeout(limit.min(BROKEN), self.exchange(to, message, order)).await {
            Ok(answer) => answer,
            Err(_) => Err(TransportError::NoAnswer("the connection is broken, or slow".to_owned())),
        }
    }
}

type Answer = Result<Response, carrack_store::peer::message::Refused>;

impl Network {
    async fn hand_over(
        &self,
        from: Node,
        to: Node,
        message: Envelope,
        note: &str,
    ) -> Result<Answer, TransportError> {
        self.ready(to).await;
        let Some(life) = self.life(to) else {
            return Err(TransportError::Undelivered(format!("nobody listens at {}", url(to))));
        };
        let text = describe(&message.request);
        let answer = life.store.peer_handler().handle(message).await;
        self.watchdog.look(&life);
        self.ready(to).await;
        if !self.is_alive(to, life.number) {
            return never().await;
        }
        let result = answer.as_ref().map_or_else(ToString::to_string, describe_answer);
        self.trace.event(format_args!("m{from} → m{to} {text} {note}: {result}"));
        Ok(answer)
    }
}

#[async_trait]
impl Transport for Link {
    async fn call(&self, to: &Peer, message: Envelope, limit: Duration) -> Result<Response, TransportError> {
        self.within(limit, to, message, None).await
    }

    fn appends(
        self: Arc<Self>,
        to: Peer,
        messages: BoxStream<'static, Envelope>,
        limit: Duration,
    ) -> BoxStream<'static, Result<Response, TransportError>> {
        let order = Arc::new(Order::new(()));
        let answers = messages.map(move |message| {
            let (link, to, order) = (Arc::clone(&self), to.clone(), Arc::clone(&order));
            async move { link.within(limit, &to, message, Some(&order)).await }
        });
        Box::pin(answers.buffered(PIPELINE))
    }
}

/// Whether a request may be handed over twice: Raft's own messages may, and questions. What changes something is carried
/// by transports that hand over once or not at all.
fn may_come_twice(request: &Request) -> bool {
    !matches!(request, Request::Write(_) | Request::Change(_))
}

/// A message in a few words.
fn describe(request: &Request) -> String {
    match request {
        Request::Append(append) => {
            let entries = append.entries.len();
            let prev = append.prev.map_or(0, |at| at.index);
            let commit = append.commit.map_or(0, |at| at.index);
            format!("append t{} {prev}+{entries} commit {commit}", append.vote.term)
        }
        Request::Vote(ballot) => format!("vote t{}", ballot.vote.term),
        Request::PreVote(ballot) => format!("pre-vote t{}", ballot.vote.term),
        Request::TransferLeader(_) => "transfer".to_owned(),
        Request::Snapshot(chunk) => format!("snapshot {} part {}", chunk.last.index, chunk.part),
        Request::Write(bytes) => format!("write of {} bytes", bytes.len()),
        Request::ReadIndex => "read index".to_owned(),
        other => format!("{other:?}"),
    }
}

fn describe_answer(answer: &Response) -> String {
    match answer {
        Response::Append(answer) => format!("{answer:?}"),
        Response::Vote(answer) => format!("t{} {}", answer.vote.term, answer.granted),
        Response::Written(bytes) => format!("{} bytes", bytes.len()),
        Response::Changed(bytes) => format!("{} bytes", bytes.len()),
        other => format!("{other:?}"),
    }
}
