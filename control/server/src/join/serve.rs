//! The cluster's side of joining.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use carrack_store::{Member, MemberError, Store};
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::token::{self, Role};
use super::{AUTHORITY_PATH, ClusterSettings, JOIN_PATH, JoinRequest, Joiner, KnownMember, Welcome};
use crate::authn::Objects;
use crate::server::{ApiServer, Inner};
use crate::{ApiError, RequestBody, ResponseBody, StoreObjects, full, limits, pki, respond};

/// Joiners at once; further ones are told to come back.
const AT_ONCE: usize = 4;
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a server needs to let others join.
pub struct Joining {
    settings: ClusterSettings,
    authority_pem: String,
    keys: PathBuf,
    encryption: PathBuf,
    places: Semaphore,
}

impl Joining {
    /// `authority_pem` is the cluster's, `keys` the directory of keys, `encryption` the EncryptionConfiguration in use.
    pub fn new(settings: ClusterSettings, authority_pem: &str, keys: PathBuf, encryption: PathBuf) -> Self {
        let authority_pem = authority_pem.to_owned();
        Self { settings, authority_pem, keys, encryption, places: Semaphore::new(AT_ONCE) }
    }
}

impl ApiServer {
    /// Lets others join from now on. To be called once, before serving.
    pub fn let_join(&self, joining: Joining) {
        if self.inner.joining.set(joining).is_err() {
            tracing::error!("joining was set up before; the first one stays");
        }
    }
}

/// Whether a path is answered here, and not by the API.
pub(crate) fn is_about(path: &str) -> bool {
    path == AUTHORITY_PATH || path == JOIN_PATH
}

/// Answers one request. Nobody is authenticated: who joins shows a token.
pub(crate) fn answer(
    server: Arc<Inner>,
    request: Request<RequestBody>,
) -> BoxFuture<'static, Response<ResponseBody>> {
    // Boxed, so that the compiler need not see through it.
    Box::pin(async move { answer_to(&server, request).await })
}

async fn answer_to(server: &Inner, request: Request<RequestBody>) -> Response<ResponseBody> {
    let Some(joining) = server.joining.get() else { return respond::refusal(&ApiError::no_such_path()) };
    let answered = match (request.method(), request.uri().path()) {
        (&Method::GET, AUTHORITY_PATH) => Ok(json!({"authority": joining.authority_pem})),
        (&Method::POST, JOIN_PATH) => {
            tokio::time::timeout(TIMEOUT, admit(server, joining, request.into_body())).await.unwrap_or_else(
                |_| Err(ApiError::unavailable("joining took too long; try again").retry_after(1)),
            )
        }
        _ => Err(ApiError::method_not_allowed()),
    };
    match answered {
        Ok(value) => {
            let mut response = Response::new(full(value.to_string()));
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(http::header::CONTENT_TYPE, json);
            response
        }
        Err(error) => respond::refusal(&error),
    }
}

async fn admit(server: &Inner, joining: &Joining, body: RequestBody) -> Result<Value, ApiError> {
    let Ok(_place) = joining.places.try_acquire() else {
        return Err(ApiError::too_many_requests("others are joining; try again", 1));
    };
    let body = limits::read_body(body).await?;
    let request: JoinRequest = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("this is no request to join: {error}")))?;
    let store = server.registry.store();
    check_token(store, &request.token).await?;
    let keys = pki::export_shared(&joining.keys).map_err(ApiError::internal)?;
    let encryption = std::fs::read_to_string(&joining.encryption)
        .map_err(|error| ApiError::internal(format!("{}: {error}", joining.encryption.display())))?;
    let members = add(store, &request.joiner).await?;
    tracing::info!(name = request.joiner.name, learner = request.joiner.learner, "a server joins");
    let welcome = Welcome { settings: joining.settings.clone(), keys, encryption, members };
    serde_json::to_value(welcome).map_err(ApiError::internal)
}

async fn check_token(store: &Store, shown: &str) -> Result<(), ApiError> {
    let refused = || {
        ApiError::new(
            401,
            "Unauthorized",
            "the token is not known: it was mistyped or revoked, or its time is over; \
             make a new one with `carrack token create`",
        )
    };
    let (id, secret) = token::split(shown).ok_or_else(refused)?;
    let objects = StoreObjects::new(store.clone());
    let stored = objects.get("", "secrets", token::NAMESPACE, &token::secret_name(id)).await?;
    let admitted =
        stored.is_some_and(|stored| token::admits(&stored, secret, Role::Server, Timestamp::now()));
    if admitted { Ok(()) } else { Err(refused()) }
}

/// Makes the joiner a member of the store, unless an earlier try did; gives the members that it can ask.
async fn add(store: &Store, joiner: &Joiner) -> Result<Vec<KnownMember>, ApiError> {
    store.ready().await?;
    if !already_added(&store.members(), store.member_id(), joiner)? {
        store.member_add(joiner.learner, joiner.peer_urls.clone()).await.map_err(refused)?;
    }
    let known = store.members().into_iter().filter(|member| !member.name.is_empty());
    Ok(known.map(|Member { name, peer_urls, .. }| KnownMember { name, peer_urls }).collect())
}

/// Whether the joiner is a member already, which has not started yet.
fn already_added(members: &[Member], own: u64, joiner: &Joiner) -> Result<bool, ApiError> {
    let conflict = |why: String| Err(ApiError::new(409, "Conflict", why));
    if joiner.name.is_empty() || joiner.peer_urls.is_empty() {
        return Err(ApiError::bad_request("a member needs a name and an address for the others"));
    }
    if members.iter().any(|member| member.id == own && member.peer_urls.is_empty()) {
        return conflict(
            "this cluster's store does not listen for other members: start its first server with --peer-port 2380"
                .to_owned(),
        );
    }
    let remove = "if it is gone for good, remove it first (`carrack ctl member remove`), then try again";
    let same_place = members.iter().find(|m| m.peer_urls.iter().any(|url| joiner.peer_urls.contains(url)));
    match same_place {
        Some(member) if member.name.is_empty() && !member.votes => return Ok(true),
        Some(member) => {
            let (name, id) = (&member.name, member.id);
            return conflict(format!("the member {name:?} ({id:x}) has this address already: {remove}"));
        }
        None => {}
    }
    match members.iter().find(|member| member.name == joiner.name) {
        Some(member) => conflict(format!(
            "the member {:x} is called {:?} already: give this one another --node-name; or, {remove}",
            member.id, member.name
        )),
        None => Ok(false),
    }
}

fn refused(error: MemberError) -> ApiError {
    match error {
        MemberError::BadPeerUrl(_) => ApiError::bad_request(error.to_string()),
        MemberError::PeerUrlExists(_) => ApiError::new(409, "Conflict", error.to_string()),
        _ => ApiError::unavailable(format!("the store cannot take a new member now: {error}")).retry_after(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, url: &str, votes: bool) -> Member {
        let peer_urls = if url.is_empty() { Vec::new() } else { vec![url.to_owned()] };
        Member { id, name: name.to_owned(), peer_urls, client_urls: Vec::new(), is_learner: false, votes }
    }

    #[test]
    fn a_joiner_is_added_once_and_takes_nobodys_place() {
        let joiner = |name: &str, url: &str| Joiner {
            name: name.to_owned(),
            peer_urls: vec![url.to_owned()],
            learner: false,
        };
        let members = [member(1, "a", "https://a:2380", true), member(2, "", "https://b:2380", false)];
        let ask = |joiner: &Joiner| already_added(&members, 1, joiner).map_err(|error| error.message.clone());
        assert_eq!(ask(&joiner("c", "https://c:2380")), Ok(false));
        assert_eq!(ask(&joiner("b", "https://b:2380")), Ok(true), "an earlier try was broken off");
        assert!(ask(&joiner("a", "https://c:2380")).unwrap_err().contains("--node-name"));
        assert!(ask(&joiner("a", "https://a:2380")).unwrap_err().contains("member remove"));
        let voter = [members[0].clone(), member(2, "", "https://b:2380", true)];
        assert!(
            already_added(&voter, 1, &joiner("b", "https://b:2380")).is_err(),
            "it may have lost its data"
        );
        let alone = [member(1, "a", "", true)];
        let why = already_added(&alone, 1, &joiner("b", "https://b:2380")).unwrap_err().message.clone();
        assert!(why.contains("--peer-port"), "{why}");
    }
}
