//! Decoding takes whatever the network brings.

use proptest::prelude::*;
use prost::Message;

use super::kv::*;
use super::watch::*;

/// What the protocol's own text says these bytes are: field 1 with 3 bytes, field 7 = 1, field 64 with 1 byte.
#[test]
fn field_numbers_are_those_of_the_protocol() {
    let range = RangeRequest { key: "abc".into(), serializable: true, ..RangeRequest::default() };
    assert_eq!(range.encode_to_vec(), b"\x0a\x03abc\x38\x01");
    let compare = Compare { operand: Some(Operand::Lease(5)), range_end: "z".into(), ..Compare::default() };
    assert_eq!(compare.encode_to_vec(), b"\x40\x05\x82\x04\x01z");
    let response = WatchResponse {
        events: vec![Event { kind: 1, ..Event::default() }.encode_to_vec().into()],
        ..WatchResponse::default()
    };
    assert_eq!(response.encode_to_vec(), b"\x5a\x02\x08\x01");
}

#[test]
fn depth_is_bounded() {
    let mut deep = TxnRequest::default();
    for _ in 0..500 {
        let step = RequestOp { request: Some(Request::Txn(deep)) };
        deep = TxnRequest { success: vec![step], ..TxnRequest::default() };
    }
    let bytes = deep.encode_to_vec();
    assert!(TxnRequest::decode(bytes.as_slice()).is_err(), "a stack overflow otherwise");
}

proptest! {
    #[test]
    fn random_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = TxnRequest::decode(bytes.as_slice());
        let _ = RangeRequest::decode(bytes.as_slice());
        let _ = PutRequest::decode(bytes.as_slice());
        let _ = WatchRequest::decode(bytes.as_slice());
        let _ = super::cluster::MemberAddRequest::decode(bytes.as_slice());
        let _ = super::maintenance::AlarmRequest::decode(bytes.as_slice());
        if let Ok(known) = WatchResponse::decode(bytes.as_slice()) {
            let again = WatchResponse::decode(known.encode_to_vec().as_slice());
            prop_assert_eq!(again.ok(), Some(known));
        }
    }
}
