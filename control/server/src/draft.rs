//! Objects on their way through admission.

use std::ops::{Deref, DerefMut};

use serde_json::Value;

/// An object that plugins may change. It remembers whether anybody took hold of it to do so, which says whether what
/// follows from the rest of the object has to be worked out anew; comparing it with a copy would cost more.
#[derive(Debug)]
pub struct Draft<'a> {
    object: &'a mut Value,
    touched: bool,
}

impl<'a> Draft<'a> {
    /// Nobody has touched the object yet.
    pub fn new(object: &'a mut Value) -> Self {
        Self { object, touched: false }
    }

    /// Whether somebody may have changed it.
    pub fn is_touched(&self) -> bool {
        self.touched
    }
}

impl Deref for Draft<'_> {
    type Target = Value;

    fn deref(&self) -> &Value {
        self.object
    }
}

impl DerefMut for Draft<'_> {
    fn deref_mut(&mut self) -> &mut Value {
        self.touched = true;
        self.object
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_only_reads_does_not_touch() {
        let mut object = json!({"a": 1});
        let mut draft = Draft::new(&mut object);
        assert_eq!(draft["a"], 1);
        assert!(!draft.is_touched());
        draft["a"] = 2.into();
        assert!(draft.is_touched());
        assert_eq!(object["a"], 2);
    }
}
