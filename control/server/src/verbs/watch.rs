//! `watch`: the present state if asked for, then every change, as a stream that costs the server a position in
//! the history and no buffer of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use carrack_api::select::Selection;
use carrack_api::{ResourceRef, Scope};
use carrack_store::{Event, Range, Revision};
use futures::{FutureExt, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rand::Rng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::{Answer, Call};
use crate::conversion::{Change, Converter, Found};
use crate::events::{Encoder, Type};
use crate::interest::Feed;
use crate::kinds::End;
use crate::negotiate::Media;
use crate::options::{WatchOptions, WatchStart};
use crate::{ApiError, BoxError, ResponseBody, Selectors, full, protobuf, respond};

/// About how many bytes of events are put together before they are sent.
const PIECE: usize = 64 * 1024;
/// Between bookmarks, as upstream.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lasts when the client does not say: between this and twice as long, so that clients do not
/// all come back at once. Upstream's figure.
const LEAST_DURATION: Duration = Duration::from_secs(1800);

/// The reason of what is asked for from a revision whose events are gone.
const EXPIRED: &str = "Expired";

/// Starts the watch that the call asks for.
pub(super) async fn watch(call: &Call) -> Result<Answer, ApiError> {
    let mut options = WatchOptions::parse(&call.query)?;
    if call.info.is_watch_path {
        options.list.field_selector = of_one(call.name(), options.list.field_selector)?;
    }
    let media = match call.representation.media {
        Media::Json => "application/json",
        Media::Protobuf => protobuf::encode::WATCH_MEDIA_TYPE,
        Media::Yaml => {
            let streams = ["application/json;stream=watch", protobuf::encode::WATCH_MEDIA_TYPE];
            return Err(carrack_api::status::not_acceptable(&streams).into());
        }
    };
    let selection = super::list::selection(call, &options.list)?;
    let session = match session(call, &options, selection).await {
        Ok(session) => session,
        // As upstream: who may watch, and from where has passed, is told in the stream.
        Err(error) if error.reason == EXPIRED => {
            let include = respond::include(&call.query)?;
            let encoder = Encoder::new(call.resource.clone(), &call.representation, include);
            return Ok(streamed(full(encoder.error(&error)), media));
        }
        Err(error) => return Err(error),
    };
    call.server.metrics.watch_started(&call.resource);
    let open = call.server.metrics.open_watch();
    let frames = stream::unfold((session, open), |(mut session, open)| async move {
        let piece = session.next_piece().await?;
        Some((Ok::<_, BoxError>(Frame::data(piece)), (session, open)))
    });
    Ok(streamed(StreamBody::new(frames).boxed_unsync(), media))
}

/// The field selector of a watch whose path names an object: that object alone. A selector of the client's own has to
/// mean the same one.
fn of_one(name: &str, asked: String) -> Result<String, ApiError> {
    if name.is_empty() {
        return Ok(asked);
    }
    if asked.is_empty() {
        let plain = |letter| !matches!(letter, '\\' | ',' | '=');
        let letters =
            name.chars().flat_map(|letter| (!plain(letter)).then_some('\\').into_iter().chain([letter]));
        return Ok(format!("metadata.name={}", letters.collect::<String>()));
    }
    let selectors = Selectors::parse(&asked, "");
    let same = selectors.fields.iter().any(|term| {
        term.key == "metadata.name" && term.operator == "In" && term.values.iter().any(|value| value == name)
    });
    match same {
        true => Ok(asked),
        // Upstream's words.
        false => Err(ApiError::bad_request("fieldSelector metadata.name doesn't match requested name")),
    }
}

/// The answer with this stream of events.
fn streamed(events: ResponseBody, media: &'static str) -> Answer {
    let mut response = Response::new(events);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Answer::Ready(response)
}

/// Reads the state that the watch begins with, and opens it right behind.
async fn session(call: &Call, options: &WatchOptions, selection: Selection) -> Result<Session, ApiError> {
    let store = call.registry().store();
    let keys = super::list::keys(call, &selection);
    let mut initial = VecDeque::new();
    let since = match options.start {
        WatchStart::State | WatchStart::StateThenBookmark(_) => {
            if let WatchStart::StateThenBookmark(least) = options.start {
                super::list::reach(call, least).await?;
            }
            let response = store.range(Range::of(keys.clone())).await?;
            for found in call.server.converter.found(&call.resource, response.kvs).await? {
                tokio::task::consume_budget().await;
                if selection.is_everything() || selection.matches(&found.view(&call.resource)) {
                    initial.push_back(found);
                }
            }
            Some(response.revision)
        }
        WatchStart::Now => {
            // Also a server that is behind begins with nothing older than the request.
            store.ready().await?;
            None
        }
        WatchStart::After(revision) => {
            super::list::reach(call, revision).await?;
            Some(revision)
        }
    };
    let (row, interests) = (&call.resource, &call.server.interests);
    let in_namespace = row.scope == Scope::Namespaced && !call.namespace().is_empty();
    let feed = interests.watch(store, row, keys, in_namespace, &selection, since).map_err(ApiError::from)?;
    let include = respond::include(&call.query)?;
    let lasts = options.list.timeout_seconds.map_or_else(
        || LEAST_DURATION + rand::rng().random_range(Duration::ZERO..LEAST_DURATION),
        Duration::from_secs,
    );
    let now = Instant::now();
    Ok(Session {
        resource: call.resource.clone(),
        converter: call.server.converter.clone(),
        encoder: Encoder::new(call.resource.clone(), &call.representation, include),
        mark_initial_end: matches!(options.start, WatchStart::StateThenBookmark(_)),
        initial,
        feed,
        selection,
        bookmark_at: options.bookmarks.then(|| now + BOOKMARK_EVERY),
        // Far times overflow the clock; a day is longer than any client needs.
        ends_at: now + lasts.min(Duration::from_secs(86_400)),
        shutdown: call.server.shutdown.clone(),
        kind_ends: call.server.kinds.end_of(&call.resource),
        ended: false,
        failed: None,
        sent: call.server.metrics.watch_events(&call.resource),
    })
}

/// A running watch.
struct Session {
    resource: ResourceRef,
    converter: Converter,
    encoder: Encoder,
    /// Objects that are still to be sent as ADDED.
    initial: VecDeque<Found>,
    /// Whether a bookmark says when all of `initial` was sent.
    mark_initial_end: bool,
    feed: Feed,
    selection: Selection,
    /// When the next bookmark is due; `None` when the client wants none.
    bookmark_at: Option<Instant>,
    ends_at: Instant,
    shutdown: CancellationToken,
    kind_ends: End,
    ended: bool,
    /// Why the watch cannot go on, once all before that is sent.
    failed: Option<ApiError>,
    /// Counts what is sent.
    sent: Arc<AtomicU64>,
}

impl Session {
    /// The next bytes; `None` at the end.
    async fn next_piece(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        match self.piece().await {
            Ok(piece) => piece,
            Err(error) => {
                self.ended = true;
                Some(self.encoder.error(&error))
            }
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut out = Vec::new();
        while let Some(found) = self.initial.pop_front() {
            self.sent.fetch_add(1, Ordering::Relaxed);
            self.encoder.event(&mut out, Type::Added, found.value(), found.revision())?;
            if out.len() >= PIECE {
                return Ok(Some(out.into()));
            }
        }
        if std::mem::take(&mut self.mark_initial_end) {
            self.encoder.bookmark(&mut out, self.feed.progress(), true)?;
        }
        while out.is_empty() {
            let far = self.ends_at + BOOKMARK_EVERY;
            let news = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(None),
                () = self.kind_ends.reached() => return Ok(None),
                news = relevant(&mut self.feed, &self.encoder, &self.selection) => news,
                () = tokio::time::sleep_until(self.ends_at) => return self.last_piece(),
                () = tokio::time::sleep_until(self.bookmark_at.unwrap_or(far)) => {
                    self.bookmark_at = Some(Instant::now() + BOOKMARK_EVERY);
                    self.encoder.bookmark(&mut out, self.feed.progress(), false)?;
                    continue;
                }
            };
            let Some(news) = news else { return Ok(None) };
            self.encode(&mut out, news?).await?;
            if let Err(error) = self.encode_what_is_there(&mut out).await {
                self.failed = Some(error);
            }
        }
        Ok(Some(out.into()))
    }

    /// Adds the changes that are there without waiting, up to a piece.
    async fn encode_what_is_there(&mut self, out: &mut Vec<u8>) -> Result<(), ApiError> {
        while out.len() < PIECE {
            match relevant(&mut self.feed, &self.encoder, &self.selection).now_or_never() {
                Some(Some(news)) => self.encode(out, news?).await?,
                _ => break,
            }
        }
        Ok(())
    }

    /// The end of a watch whose time is up: a bookmark, so that the client goes on from here.
    fn last_piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        self.ended = true;
        if self.bookmark_at.is_none() {
            return Ok(None);
        }
        let mut out = Vec::new();
        self.encoder.bookmark(&mut out, self.feed.progress(), false)?;
        Ok(Some(out.into()))
    }

    /// What changes of a custom resource mean to this watcher.
    async fn judge(&self, events: Vec<Event>) -> Result<Vec<(Type, Change)>, ApiError> {
        let everything = self.selection.is_everything();
        let mut judged = Vec::with_capacity(events.len());
        for event in events {
            let change = self.converter.change(&self.resource, event, everything).await?;
            if let Some(kind) = self.encoder.judge(&change, &self.selection) {
                judged.push((kind, change));
            }
        }
        Ok(judged)
    }

    /// Encodes what the changes of one revision mean to this watcher.
    async fn encode(&mut self, out: &mut Vec<u8>, news: News) -> Result<(), ApiError> {
        let judged = match news {
            News::Judged(judged) => judged,
            News::Open(events) => self.judge(events).await?,
        };
        for (kind, change) in judged {
            self.sent.fetch_add(1, Ordering::Relaxed);
            let revision: Revision = change.event.kv.mod_revision;
            match (kind, &change.before, &change.now) {
                (Type::Deleted, Some(before), _) => {
                    self.encoder.event(out, kind, before.value(), revision)?
                }
                (_, _, Some(now)) => self.encoder.event(out, kind, now.value(), revision)?,
                (_, _, None) => self.encoder.forgotten(out, &change.event.kv.key, revision)?,
            }
        }
        Ok(())
    }
}

/// Changes of one revision.
enum News {
    /// Those that mean something to the watcher.
    Judged(Vec<(Type, Change)>),
    /// Those of a custom resource, whose form has to be asked for before they can be judged.
    Open(Vec<Event>),
}

/// The next changes of one revision that mean something to this watcher, as far as that can be told without waiting;
/// never none. It goes on by itself over what does not, as most changes do not concern most of many watchers with
/// selectors: what waits beside it is left alone. Nothing is lost if the future is dropped before it is done.
async fn relevant(
    feed: &mut Feed,
    encoder: &Encoder,
    selection: &Selection,
) -> Option<Result<News, ApiError>> {
    loop {
        let batch = match feed.next().await? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error.into())),
        };
        if encoder.is_custom() {
            return Some(Ok(News::Open(batch.events)));
        }
        let judged = batch.events.into_iter().filter_map(|event| {
            let change = Change::of_built_in(event, selection.is_everything());
            Some((encoder.judge(&change, selection)?, change))
        });
        let judged: Vec<_> = judged.collect();
        if !judged.is_empty() {
            return Some(Ok(News::Judged(judged)));
        }
    }
}
