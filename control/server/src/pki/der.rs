//! The few lines of DER (ITU-T X.690) that the certificate library leaves out: a subject with several
//! organisations.
//!
//! Kubernetes reads the groups of a client from the `O` attributes of its certificate, one each. The library
//! that builds certificates keeps one value per attribute, so the subject is written here and put in place of
//! the one it made, before the certificate is signed again.

use super::PkiError;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const BIT_STRING: u8 = 0x03;
/// 2.5.4.3, commonName.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// 2.5.4.10, organizationName.
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];
/// Elements of TBSCertificate (RFC 5280, 4.1) that stand before the subject: version, serialNumber, signature,
/// issuer, validity.
const BEFORE_SUBJECT: usize = 5;

/// A distinguished name: one `O` for each group, then `CN`.
pub(super) fn subject(common_name: &str, organizations: &[String]) -> Vec<u8> {
    let mut names = Vec::new();
    for organization in organizations {
        names.extend(attribute(&ORGANIZATION, organization));
    }
    names.extend(attribute(&COMMON_NAME, common_name));
    element(SEQUENCE, &names)
}

/// The same certificate with another subject, signed by `sign` (which gets the TBSCertificate and answers with
/// the signature).
pub(super) fn with_subject(
    certificate: &[u8],
    subject: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, PkiError>,
) -> Result<Vec<u8>, PkiError> {
    let (_, body, _) = split(certificate)?;
    let (_, tbs, rest) = split(body)?;
    let (algorithm, _, _) = split(rest)?;

    let mut after = tbs;
    for _ in 0..BEFORE_SUBJECT {
        (_, _, after) = split(after)?;
    }
    let before = &tbs[..tbs.len() - after.len()];
    let (_, _, after) = split(after)?;

    let tbs = element(SEQUENCE, &[before, subject, after].concat());
    let mut signature = vec![0]; // no unused bits
    signature.extend(sign(&tbs)?);
    let signature = element(BIT_STRING, &signature);
    Ok(element(SEQUENCE, &[&tbs, algorithm, &signature].concat()))
}

fn attribute(oid: &[u8], value: &str) -> Vec<u8> {
    let pair = [element(OID, oid), element(UTF8_STRING, value.as_bytes())].concat();
    element(SET, &element(SEQUENCE, &pair))
}

/// Tag, length, content. Lengths up to 2^32 - 1, which is more than any certificate.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes: Vec<u8> =
            (length as u32).to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend_from_slice(content);
    out
}

/// An element with its head, its content alone, and the bytes that follow it.
type Split<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Takes the first element off `bytes`.
fn split(bytes: &[u8]) -> Result<Split<'_>, PkiError> {
    let cut = || PkiError::Sign("the certificate made is not DER".into());
    let first = usize::from(*bytes.get(1).ok_or_else(cut)?);
    let (header, length) = if first < 0x80 {
        (2, first)
    } else {
        let count = first & 0x7f;
        let digits = bytes.get(2..2 + count).ok_or_else(cut)?;
        if count > 4 {
            return Err(cut());
        }
        let length = digits.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        (2 + count, length)
    };
    let end = header.checked_add(length).ok_or_else(cut)?;
    let whole = bytes.get(..end).ok_or_else(cut)?;
    Ok((whole, &whole[header..], &bytes[end..]))
}
