//! Kubernetes' libraries of addresses, networks and URLs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Cost, Inner, Row, T, made, text};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::opaque::{Opaque, OpaqueKind};
use crate::url::Url;
use crate::value::{Key, Map, Text, Value};

const IP: T = T::Op(OpaqueKind::Ip);
const CIDR: T = T::Op(OpaqueKind::Cidr);
const URL: T = T::Op(OpaqueKind::Url);
const READ: Cost = Cost::Read(0, 1.0);

pub(super) const ROWS: &[Row] = &[
    Row::global("ip", &[T::Str], IP, |_, args| {
        parse_ip(text(args, 0)?).map(|ip| Value::Opaque(Opaque::Ip(ip))).map_err(EvalError::Other)
    })
    .costs(READ),
    Row::global("isIP", &[T::Str], T::Bool, |_, args| Ok(Value::Bool(parse_ip(text(args, 0)?).is_ok())))
        .costs(READ),
    Row::global("ip.isCanonical", &[T::Str], T::Bool, |_, args| {
        let text = text(args, 0)?;
        let ip = parse_ip(text).map_err(EvalError::Other)?;
        Ok(Value::Bool(ip.to_string() == **text))
    })
    .costs(Cost::Read(0, 2.0)),
    Row::member("family", &[IP], T::Int, |_, args| {
        ip(args).map(|ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 }))
    }),
    Row::member("isUnspecified", &[IP], T::Bool, |_, args| ask(args, |ip| ip.is_unspecified())),
    Row::member("isLoopback", &[IP], T::Bool, |_, args| ask(args, |ip| ip.is_loopback())),
    Row::member("isLinkLocalMulticast", &[IP], T::Bool, |_, args| ask(args, link_local_multicast)),
    Row::member("isLinkLocalUnicast", &[IP], T::Bool, |_, args| ask(args, link_local)),
    Row::member("isGlobalUnicast", &[IP], T::Bool, |_, args| ask(args, global_unicast)),
    Row::global("cidr", &[T::Str], CIDR, |_, args| {
        parse_cidr(text(args, 0)?).map(|net| Value::Opaque(Opaque::Cidr(net))).map_err(EvalError::Other)
    })
    .costs(READ),
    Row::global("isCIDR", &[T::Str], T::Bool, |_, args| Ok(Value::Bool(parse_cidr(text(args, 0)?).is_ok())))
        .costs(READ),
    Row::member("containsIP", &[CIDR, IP], T::Bool, contains_ip).costs(Cost::Within(Inner::Ip)),
    Row::member("containsIP", &[CIDR, T::Str], T::Bool, contains_ip).costs(Cost::Within(Inner::IpText)),
    Row::member("containsCIDR", &[CIDR, CIDR], T::Bool, contains_cidr).costs(Cost::Within(Inner::Cidr)),
    Row::member("containsCIDR", &[CIDR, T::Str], T::Bool, contains_cidr).costs(Cost::Within(Inner::CidrText)),
    Row::member("ip", &[CIDR], IP, |_, args| cidr(args).map(|net| Value::Opaque(Opaque::Ip(net.addr())))),
    Row::member("masked", &[CIDR], CIDR, |_, args| {
        cidr(args).map(|net| Value::Opaque(Opaque::Cidr(net.trunc())))
    }),
    Row::member("prefixLength", &[CIDR], T::Int, |_, args| {
        cidr(args).map(|net| Value::Int(i64::from(net.prefix_len())))
    }),
    Row::global("url", &[T::Str], URL, |_, args| {
        let text = text(args, 0)?;
        match Url::parse(text) {
            Some(url) => Ok(Value::Opaque(Opaque::Url(Arc::new(url)))),
            None => {
                Err(EvalError::other(format!("URL parse error during conversion from string: {:?}", &**text)))
            }
        }
    })
    .costs(READ),
    Row::global("isURL", &[T::Str], T::Bool, |_, args| Ok(Value::Bool(Url::parse(text(args, 0)?).is_some())))
        .costs(READ),
    Row::member("getScheme", &[URL], T::Str, |meter, args| part(meter, args, |url| &url.scheme)),
    Row::member("getHost", &[URL], T::Str, |meter, args| part(meter, args, |url| &url.host)),
    Row::member("getHostname", &[URL], T::Str, |meter, args| part(meter, args, Url::hostname)),
    Row::member("getPort", &[URL], T::Str, |meter, args| part(meter, args, Url::port)),
    Row::member("getEscapedPath", &[URL], T::Str, |meter, args| part(meter, args, |url| &url.path)),
    Row::member("getQuery", &[URL], T::Map(&T::Str, &T::List(&T::Str)), query),
];

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    if text.contains('%') {
        return Err("IP address with zone value is not allowed".to_owned());
    }
    let ip: IpAddr =
        text.parse().map_err(|_| format!("IP Address {text:?} parse error during conversion from string"))?;
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err("IPv4-mapped IPv6 address is not allowed".to_owned())
        }
        ip => Ok(ip),
    }
}

fn parse_cidr(text: &str) -> Result<IpNet, String> {
    let error = || format!("network address parse error during conversion from string: {text:?}");
    let (address, prefix) = text.split_once('/').ok_or_else(error)?;
    let plain =
        prefix.bytes().all(|byte| byte.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
    let prefix = prefix.parse().ok().filter(|_| plain).ok_or_else(error)?;
    IpNet::new(parse_ip(address)?, prefix).map_err(|_| error())
}

fn ip(args: &[Value<'_>]) -> Result<IpAddr, EvalError> {
    match args.first() {
        Some(Value::Opaque(Opaque::Ip(ip))) => Ok(*ip),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn cidr(args: &[Value<'_>]) -> Result<IpNet, EvalError> {
    match args.first() {
        Some(Value::Opaque(Opaque::Cidr(net))) => Ok(*net),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn ask<'a>(args: &[Value<'a>], question: fn(&IpAddr) -> bool) -> Result<Value<'a>, EvalError> {
    ip(args).map(|ip| Value::Bool(question(&ip)))
}

fn link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn link_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

fn global_unicast(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local(ip))
}

fn contains_ip<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let net = cidr(args)?;
    let ip = match args.get(1) {
        Some(Value::Opaque(Opaque::Ip(ip))) => *ip,
        Some(Value::String(text)) => parse_ip(text).map_err(EvalError::Other)?,
        _ => return Err(EvalError::NoSuchOverload),
    };
    Ok(Value::Bool(net.contains(&ip)))
}

fn contains_cidr<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let net = cidr(args)?;
    let other = match args.get(1) {
        Some(Value::Opaque(Opaque::Cidr(net))) => *net,
        Some(Value::String(text)) => parse_cidr(text).map_err(EvalError::Other)?,
        _ => return Err(EvalError::NoSuchOverload),
    };
    Ok(Value::Bool(net.contains(&other.trunc())))
}

fn url<'v>(args: &'v [Value<'_>]) -> Result<&'v Url, EvalError> {
    match args.first() {
        Some(Value::Opaque(Opaque::Url(url))) => Ok(url),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn part<'a>(meter: &mut Meter, args: &[Value<'a>], part: fn(&Url) -> &str) -> Result<Value<'a>, EvalError> {
    made(meter, part(url(args)?).to_owned())
}

fn query<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let url = url(args)?;
    meter.allocate(url.query.len())?;
    let mut entries = BTreeMap::new();
    for (key, values) in url.values() {
        meter.elements(values.len() + 1)?;
        let values = values.into_iter().map(Value::text).collect();
        entries.insert(Key::String(Text::Own(key.into())), Value::list(values));
    }
    Ok(Value::Map(Map::Own(Arc::new(entries))))
}
