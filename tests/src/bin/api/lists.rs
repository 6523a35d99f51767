//! Lists of 10,000 pods in each form that clients ask for.

use anyhow::{Result, bail};
use http::Method;
use hyper::body::Bytes;

use crate::client::JSON;
use crate::pods;
use crate::report::Figure;
use crate::server::Server;

pub(crate) const PODS: usize = 10_000;

/// Times that each is taken; the median counts.
const ROUNDS: usize = 5;

const FORMS: &[(&str, &str)] = &[
    ("JSON", "application/json"),
    ("Table", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
    ("protobuf", "application/vnd.kubernetes.protobuf"),
];

/// Time to the first and to the last byte, server's processor time, size, and memory at the end.
pub(crate) async fn all(server: &Server) -> Result<Vec<Figure>> {
    let before = server.memory()?;
    let mut figures = vec![Figure::new("memory with 10,000 pods of 4 kB", before as f64 / 1e6, "MB")];
    for (name, accept) in FORMS {
        eprintln!("list in {name}");
        let mut client = server.client().await?;
        let (mut first, mut whole, mut bytes) = (Vec::new(), Vec::new(), 0);
        let cpu = server.cpu()?;
        for _ in 0..ROUNDS {
            let answer = client.send(Method::GET, pods::PATH, JSON, accept, Bytes::new()).await?;
            if answer.status != 200 {
                bail!("the list in {name}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
            }
            first.push(answer.first_byte);
            whole.push(answer.whole);
            bytes = answer.body.len();
        }
        let cpu = (server.cpu()? - cpu) / ROUNDS as u32;
        first.sort();
        whole.sort();
        let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let mut push = |what: &str, value, unit| {
            figures.push(Figure::new(format!("list of 10,000 pods, {name}: {what}"), value, unit));
        };
        push("size", bytes as f64 / 1e6, "MB");
        push("first byte", millis(first[ROUNDS / 2]), "ms");
        push("whole", millis(whole[ROUNDS / 2]), "ms");
        push("server CPU", millis(cpu), "ms");
    }
    let beyond = server.memory()?.saturating_sub(before) as f64 / 1e6;
    figures.push(Figure::new("memory beyond the data after these lists", beyond, "MB"));
    Ok(figures)
}
