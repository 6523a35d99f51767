//! Reading fields that may be absent or `null`.

use serde::{Deserialize, Deserializer};

/// Reads a field whose `null` means its default; use with `#[serde(default, deserialize_with = …)]`.
///
/// Go clients write `null` for an empty list, and so do objects that went through them.
///
/// # Errors
/// What the value's own type reports.
pub fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
