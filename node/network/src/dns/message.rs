//! DNS messages: what is asked, and the answers of the zone put into words.

use std::net::IpAddr;
use std::str::FromStr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::zone::{Answer, Data, Kind, SHORT_TTL, Zone};

/// What an answer over UDP may be as long as, if the asker does not say more, in bytes.
const PLAIN_UDP: u16 = 512;
/// What we say that we take, and at most send, over UDP: fits every path without fragments.
const OUR_UDP: u16 = 1232;

/// A question that can be answered.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) message: Message,
    /// In lower case, without the last dot.
    pub(super) name: String,
    pub(super) kind: RecordType,
}

/// Reads a query; `Err` holds the response to send instead of an answer, if any.
pub(super) fn parse(bytes: &[u8]) -> Result<Question, Option<Vec<u8>>> {
    let Ok(message) = Message::from_vec(bytes) else { return Err(malformed(bytes)) };
    if message.metadata.message_type != MessageType::Query {
        return Err(None);
    }
    let refuse = |code| Err(respond(&message, code).to_vec().ok());
    if message.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(ResponseCode::BADVERS);
    }
    let [query] = message.queries.as_slice() else { return refuse(ResponseCode::FormErr) };
    if !matches!(query.query_class, DNSClass::IN | DNSClass::ANY) {
        return refuse(ResponseCode::Refused);
    }
    let name = lower(&query.name);
    Ok(Question { kind: query.query_type, name, message })
}

/// FORMERR to what has at least a header and is no answer itself.
fn malformed(bytes: &[u8]) -> Option<Vec<u8>> {
    let id = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
    let is_response = bytes.get(2)? & 0x80 != 0;
    if is_response || bytes.len() < 12 {
        return None;
    }
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok()
}

/// A name in lower case, without the last dot.
pub(super) fn lower(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

/// A response to `query` without any records.
pub(super) fn respond(query: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.queries.clone_from(&query.queries);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(OUR_UDP);
        edns.set_rcode_high(u8::try_from(u16::from(code) >> 4).unwrap_or(0));
        response.set_edns(edns);
    }
    response
}

/// Puts the zone's answer into a response. An alias is in `answers` already.
pub(super) fn fill(response: &mut Message, zone: &Zone, serial: u32, owner: &Name, answer: &Answer) {
    response.metadata.authoritative = true;
    match answer {
        Answer::Outside => {}
        Answer::NoName => {
            response.metadata.response_code = ResponseCode::NXDomain;
            response.authorities.extend(soa(zone, serial));
        }
        Answer::Records { data, .. } if data.is_empty() => {
            response.authorities.extend(soa(zone, serial));
        }
        Answer::Records { ttl, data } => {
            for item in data {
                response.answers.extend(record(owner.clone(), *ttl, item, zone, serial));
            }
            add_targets(response, zone, serial, data);
        }
    }
}

/// The addresses of what SRV records lead to, so that nobody has to ask again.
fn add_targets(response: &mut Message, zone: &Zone, serial: u32, data: &[Data]) {
    let mut seen = std::collections::BTreeSet::new();
    for item in data {
        let Data::Srv { target, .. } = item else { continue };
        if !seen.insert(target) {
            continue;
        }
        for kind in [Kind::A, Kind::Aaaa] {
            let (Answer::Records { ttl, data }, Some(owner)) = (zone.answer(target, kind), name(target))
            else {
                continue;
            };
            let records = data.iter().filter_map(|item| record(owner.clone(), ttl, item, zone, serial));
            response.additionals.extend(records);
        }
    }
}

/// The record that goes with every answer of "nothing": it says how long that may be kept.
fn soa(zone: &Zone, serial: u32) -> Option<Record> {
    record(name(&zone.domain)?, SHORT_TTL, &Data::Soa, zone, serial)
}

/// A record, unless a name in it is too long for DNS.
fn record(owner: Name, ttl: u32, data: &Data, zone: &Zone, serial: u32) -> Option<Record> {
    let data = match data {
        Data::A(ip) => RData::A(A(*ip)),
        Data::Aaaa(ip) => RData::AAAA(AAAA(*ip)),
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Ns(target) => RData::NS(NS(name(target)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
        Data::Srv { port, target } => RData::SRV(SRV::new(0, 100, *port, name(target)?)),
        Data::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
        Data::Soa => {
            let server = name(&format!("ns.dns.{}", zone.domain))?;
            let person = name(&format!("hostmaster.{}", zone.domain))?;
            RData::SOA(SOA::new(server, person, serial, 7200, 1800, 86400, SHORT_TTL))
        }
    };
    Some(Record::from_rdata(owner, ttl, data))
}

/// A full name from text without the last dot.
pub(super) fn name(text: &str) -> Option<Name> {
    Name::from_str(&format!("{}.", text.trim_end_matches('.'))).ok()
}

/// The kind of records that a query's type asks for.
pub(super) fn kind(asked: RecordType) -> Kind {
    match asked {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::CNAME => Kind::Cname,
        RecordType::NS => Kind::Ns,
        RecordType::PTR => Kind::Ptr,
        RecordType::SOA => Kind::Soa,
        RecordType::SRV => Kind::Srv,
        RecordType::TXT => Kind::Txt,
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    }
}

/// The bytes of a response: over UDP at most as many as the asker takes, cut down to the question if there are more.
pub(super) fn encode(query: &Message, response: &Message, udp: bool) -> Option<Vec<u8>> {
    let bytes = response.to_vec().ok()?;
    let asked = query.edns.as_ref().map_or(PLAIN_UDP, Edns::max_payload);
    let most = if udp { asked.clamp(PLAIN_UDP, OUR_UDP) } else { u16::MAX };
    if bytes.len() <= usize::from(most) {
        return Some(bytes);
    }
    let mut short = respond(query, response.metadata.response_code);
    short.metadata.authoritative = response.metadata.authoritative;
    short.metadata.truncation = true;
    short.to_vec().ok()
}

/// Shuffles the addresses of an answer, so that clients which take the first spread over all.
pub(super) fn rotate(response: &mut Message, turn: usize) {
    let is_address = |record: &Record| matches!(record.data.ip_addr(), Some(IpAddr::V4(_) | IpAddr::V6(_)));
    let start = response.answers.iter().position(is_address).unwrap_or(response.answers.len());
    if let Some(addresses) = response.answers.get_mut(start..)
        && addresses.len() > 1
    {
        let by = turn % addresses.len();
        addresses.rotate_left(by);
    }
}
