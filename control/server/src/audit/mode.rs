//! Whether requests wait for what is told of them.

/// Upstream's modes of a way that events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Events go behind the requests' backs, many at once; what is too much is dropped and counted.
    Batch,
    /// A request waits until its events have gone their way. Where that fails, they are counted, and it goes on.
    Blocking,
    /// The same, and a request whose first event is lost is refused before anything is done.
    BlockingStrict,
}

impl Mode {
    pub(super) fn waits(self) -> bool {
        self != Mode::Batch
    }

    pub(super) fn is_strict(self) -> bool {
        self == Mode::BlockingStrict
    }
}
