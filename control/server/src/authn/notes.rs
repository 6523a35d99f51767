//! What is learned of credentials beside whose they are: words for the audit log and for the client, Secrets whose
//! token was used, and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

tokio::task_local! {
    static NOTES: Arc<Mutex<Notes>>;
}

/// What was learned while a request's credentials, or the token of a review, were judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    /// For the audit log.
    pub(crate) annotations: Vec<(&'static str, String)>,
    /// For the client.
    pub(crate) warnings: Vec<&'static str>,
    /// A Secret that is to say that its token was used today.
    pub(crate) used: Option<UsedSecret>,
}

/// A Secret of a ServiceAccount's token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UsedSecret {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Does the work, and gives what it noted beside its result.
pub(crate) async fn gathered<T>(work: impl Future<Output = T>) -> (T, Notes) {
    let notes = Arc::<Mutex<Notes>>::default();
    let result = NOTES.scope(Arc::clone(&notes), work).await;
    let notes = std::mem::take(&mut *notes.lock());
    (result, notes)
}

/// Notes something, if somebody gathers.
pub(super) fn note(change: impl FnOnce(&mut Notes)) {
    let _ = NOTES.try_with(|notes| change(&mut notes.lock()));
}

/// Tokens by their kind, as far as they tell that somebody has to act; names and help are upstream's.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) legacy: AtomicU64,
    pub(super) manual: AtomicU64,
    pub(super) generated: AtomicU64,
    pub(super) invalidated: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) valid: AtomicU64,
}

impl Counts {
    /// Name, help and value of each.
    pub(super) fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        let table: [(&str, &str, &AtomicU64); 6] = [
            (
                "serviceaccount_legacy_tokens_total",
                "Cumulative legacy service account tokens used",
                &self.legacy,
            ),
            (
                "serviceaccount_legacy_manual_token_uses_total",
                "Cumulative manually created legacy tokens used",
                &self.manual,
            ),
            (
                "serviceaccount_legacy_auto_token_uses_total",
                "Cumulative auto-generated legacy tokens used",
                &self.generated,
            ),
            (
                "serviceaccount_invalid_legacy_auto_token_uses_total",
                "Cumulative invalid auto-generated legacy tokens used",
                &self.invalidated,
            ),
            (
                "serviceaccount_stale_tokens_total",
                "Cumulative stale projected service account tokens used",
                &self.stale,
            ),
            (
                "serviceaccount_valid_tokens_total",
                "Cumulative valid projected service account tokens used",
                &self.valid,
            ),
        ];
        table.map(|(name, help, count)| (name, help, count.load(Ordering::Relaxed))).into()
    }
}

/// Counts one more.
pub(super) fn count(of: &AtomicU64) {
    of.fetch_add(1, Ordering::Relaxed);
}
