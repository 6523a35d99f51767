//! The store from outside: what a client relies on.

use carrack_store::*;

#[tokio::test]
async fn smoke() {
    let dir = tempfile::tempdir().expect("dir");
    let t = std::time::Instant::now();
    let store = Store::open(Options::new(dir.path())).await.expect("opens");
    println!("open {:?}", t.elapsed());
    let done = store.txn(Txn::put("a", "1")).await.expect("put");
    assert_eq!(done.revision, 2);
    println!("{:#?}", store.status());
    let t = std::time::Instant::now();
    store.shutdown().await;
    println!("shutdown {:?}", t.elapsed());
    let t = std::time::Instant::now();
    let store = Store::open(Options::new(dir.path())).await.expect("opens");
    println!("open {:?}", t.elapsed());
    let read = store.range(Range::key("a")).await.expect("read");
    assert_eq!(read.kvs[0].value, "1");
    println!("{:#?}", store.status());
}
