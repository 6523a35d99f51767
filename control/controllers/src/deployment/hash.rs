//! The `pod-template-hash`: a short, stable name for a pod template.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// The label and selector requirement that keeps the pods of one template apart from the others'.
pub(super) const LABEL: &str = "pod-template-hash";

/// Letters that cannot form a word (upstream's alphabet for generated names).
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A hash of `template`; `collisions` gives another one where the first is taken by another template.
pub(super) fn of(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    // Field order is that of the types and maps are ordered, so that equal templates give equal bytes. A template
    // is plain data and always serializes.
    let bytes = serde_json::to_vec(template).unwrap_or_default();
    let mut hash = fnv1a(0x811c_9dc5, &bytes);
    if let Some(count) = collisions {
        hash = fnv1a(hash, &count.to_le_bytes());
    }
    hash.to_string().bytes().map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])).collect()
}

fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collision_changes_the_hash_and_nothing_else_does() {
        let template = PodTemplateSpec::default();
        assert_eq!(of(&template, None), of(&template.clone(), None));
        assert_ne!(of(&template, None), of(&template, Some(1)));
        assert_ne!(of(&template, Some(1)), of(&template, Some(2)));
        assert!(of(&template, None).bytes().all(|b| ALPHABET.contains(&b)));
    }
}
