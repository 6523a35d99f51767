//! A plain client for what is not measured by the call: gRPC on bare HTTP/2.

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{Request, Uri};
use prost::Message;
use tokio::net::TcpStream;

pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What a server may send before it is read.
const WINDOW_BYTES: u32 = 8 << 20;

/// The fields that are used of etcd's messages, by their public numbers.
pub(crate) mod pb {
    use bytes::Bytes;
    use prost::{Message, Oneof};

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct PutRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub(crate) key: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub(crate) value: Bytes,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct RangeRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub(crate) key: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub(crate) range_end: Bytes,
        #[prost(bool, tag = "7")]
        pub(crate) serializable: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct RangeResponse {
        #[prost(int64, tag = "4")]
        pub(crate) count: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct RequestOp {
        #[prost(message, optional, tag = "2")]
        pub(crate) put: Option<PutRequest>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct TxnRequest {
        #[prost(message, repeated, tag = "2")]
        pub(crate) success: Vec<RequestOp>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct WatchRequest {
        #[prost(oneof = "WatchCall", tags = "1")]
        pub(crate) call: Option<WatchCall>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum WatchCall {
        /// Key and end of the range have the numbers that they have in a range request.
        #[prost(message, tag = "1")]
        Create(RangeRequest),
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct WatchResponse {
        #[prost(bool, tag = "3")]
        pub(crate) created: bool,
        #[prost(message, repeated, tag = "11")]
        pub(crate) events: Vec<Event>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Event {
        #[prost(message, optional, tag = "2")]
        pub(crate) kv: Option<KeyValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct KeyValue {
        #[prost(bytes = "bytes", tag = "5")]
        pub(crate) value: Bytes,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct StatusResponse {
        #[prost(message, optional, tag = "1")]
        pub(crate) header: Option<Header>,
        #[prost(uint64, tag = "4")]
        pub(crate) leader: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Header {
        #[prost(uint64, tag = "2")]
        pub(crate) member_id: u64,
    }
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Client {
    requests: SendRequest<Bytes>,
    address: String,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Result<Client, Failed> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES * 8)
            .max_frame_size(1 << 20)
            .handshake(stream)
            .await?;
        tokio::spawn(connection);
        Ok(Client { requests, address: address.to_owned() })
    }

    async fn send(
        &self,
        path: &str,
        message: &impl Message,
        end: bool,
    ) -> Result<(SendStream<Bytes>, RecvStream), Failed> {
        let uri =
            Uri::builder().scheme("http").authority(self.address.as_str()).path_and_query(path).build()?;
        let request =
            Request::post(uri).header("te", "trailers").header("content-type", "application/grpc").body(())?;
        let mut requests = self.requests.clone().ready().await?;
        let (answer, mut body) = requests.send_request(request, false)?;
        body.send_data(frame(message), end)?;
        let (head, body_in) = answer.await?.into_parts();
        check(&head.headers)?;
        Ok((body, body_in))
    }

    /// One message each way.
    pub(crate) async fn call<A: Message + Default>(
        &self,
        path: &str,
        message: &impl Message,
    ) -> Result<A, Failed> {
        let (_, body) = self.send(path, message, true).await?;
        let mut messages = Messages { body, bytes: BytesMut::new() };
        let answer = messages.next().await?.ok_or("the answer is empty")?;
        messages.end().await?;
        Ok(A::decode(answer)?)
    }

    /// One message to the server, many from it; the server may be told more.
    pub(crate) async fn stream(
        &self,
        path: &str,
        message: &impl Message,
        end: bool,
    ) -> Result<(SendStream<Bytes>, Messages), Failed> {
        let (out, body) = self.send(path, message, end).await?;
        Ok((out, Messages { body, bytes: BytesMut::new() }))
    }

    pub(crate) async fn put(&self, key: Bytes, value: Bytes) -> Result<(), Failed> {
        self.call::<pb::Header>("/etcdserverpb.KV/Put", &pb::PutRequest { key, value }).await.map(drop)
    }

    /// The number of keys found.
    pub(crate) async fn range(&self, request: &pb::RangeRequest) -> Result<i64, Failed> {
        Ok(self.call::<pb::RangeResponse>("/etcdserverpb.KV/Range", request).await?.count)
    }
}

/// A message behind its length.
fn frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + len);
    bytes.put_u8(0);
    bytes.put_u32(len as u32);
    bytes.put(message.encode_to_vec().as_slice());
    bytes.freeze()
}

fn check(headers: &http::HeaderMap) -> Result<(), Failed> {
    match headers.get("grpc-status") {
        Some(status) if status != "0" => {
            let text = headers.get("grpc-message").map_or(&b""[..], |text| text.as_bytes());
            Err(format!("status {}: {}", status.to_str()?, String::from_utf8_lossy(text)).into())
        }
        _ => Ok(()),
    }
}

/// The messages of an answer.
pub(crate) struct Messages {
    body: RecvStream,
    bytes: BytesMut,
}

impl Messages {
    /// The next one; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failed> {
        loop {
            if let Some(head) = self.bytes.first_chunk::<5>() {
                let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.bytes.len() >= 5 + len {
                    let message = self.bytes.split_to(5 + len).freeze();
                    return Ok(Some(message.slice(5..)));
                }
                self.bytes.reserve(5 + len - self.bytes.len());
            }
            let Some(data) = self.body.data().await else { return Ok(None) };
            let data = data?;
            self.body.flow_control().release_capacity(data.len())?;
            self.bytes.extend_from_slice(&data);
        }
    }

    async fn end(&mut self) -> Result<(), Failed> {
        while let Some(data) = self.body.data().await {
            self.body.flow_control().release_capacity(data?.len())?;
        }
        self.body.trailers().await?.as_ref().map_or(Ok(()), check)
    }
}
