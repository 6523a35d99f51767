//! Logs in any state.

use std::path::PathBuf;
use std::sync::LazyLock;

use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::{LogOptions, LogReader};
use crate::http::api::LogSource;

/// The reader takes threads for its files: making them anew for each log would take most of the time.
static RUNTIME: LazyLock<Option<Runtime>> = LazyLock::new(|| Builder::new_current_thread().build().ok());

pub(crate) fn logs() -> Vec<Vec<u8>> {
    let texts = [
        "\u{2}2016-10-06T00:17:09.669794202Z stdout F a\n2016-10-06T00:17:10Z stderr P:x b\n2016-10-06T00:17:10Z stderr F c\n\
         2016-10-06T00:17:11Z stdout F\nnothing\n2016-10-06T00:17:12Z stdout P d",
        "\0\n\n2016-10-06T00:17:09Z stdout F \n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// The first byte is how many lines of the end are wanted. They are the end of the whole, and no limit is passed.
pub(crate) fn log(data: &[u8]) {
    let [lines, text @ ..] = data else { return };
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let dir = base.join(format!("carrack-fuzz-log-{}", std::process::id()));
    let path = dir.join("0.log");
    let written = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, text));
    let Some(runtime) = RUNTIME.as_ref().filter(|_| written.is_ok()) else { return };
    let read = |options: LogOptions| {
        let source = LogSource { path: path.clone(), ended: watch::channel(true).1 };
        runtime.block_on(async {
            let pieces = LogReader::open(source, options).await.ok()?.into_stream();
            let pieces: Vec<_> = pieces.filter_map(|piece| async { piece.ok() }).collect().await;
            Some(pieces.concat())
        })
    };
    let whole = read(LogOptions::default());
    let end = read(LogOptions { tail_lines: Some((*lines).into()), ..LogOptions::default() });
    let since = "2016-10-06T00:17:10Z".parse().ok();
    let limited = LogOptions { timestamps: true, since, limit_bytes: Some(9), ..LogOptions::default() };
    let limited = read(limited);
    let _ = std::fs::remove_dir_all(&dir);
    if let (Some(whole), Some(end)) = (whole, end) {
        assert!(whole.ends_with(&end), "the last {lines} lines are {end:?}");
    }
    assert!(limited.is_none_or(|text| text.len() <= 9), "more than was asked for");
}
