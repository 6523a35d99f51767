//! Sets of field paths, in the form in which `managedFields` stores them (`FieldsV1`).
//!
//! The format is that of `sigs.k8s.io/structured-merge-diff/fieldpath`: a tree of JSON objects whose keys are path
//! elements (`f:<field>`, `k:<keys of a list entry>`, `v:<entry of a set>`), with `"."` for an element that is in the
//! set itself and has others below it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write;

use serde_json::{Map, Value};

/// One step of a path, in the text form of `FieldsV1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Element(Box<str>);

/// Deepest nesting that is read, as deep as objects can be.
const MAX_DEPTH: usize = crate::codec::MAX_DEPTH;

impl Element {
    /// The field or key of a map of that name.
    pub(super) fn field(name: &str) -> Self {
        Element(["f:", name].concat().into())
    }

    /// The list entry whose keys have these values; the JSON map sorts them.
    pub(super) fn keys(keys: Map<String, Value>) -> Self {
        Element(format!("k:{}", Value::Object(keys)).into())
    }

    /// The entry of a set.
    pub(super) fn value(value: &Value) -> Self {
        Element(format!("v:{value}").into())
    }

    /// Reads an element; `None` when it has no known form. JSON is brought into its one form.
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Element(text.into())),
            "k" => match serde_json::from_str(rest).ok()? {
                Value::Object(keys) => Some(Element::keys(keys)),
                _ => None,
            },
            "v" => Some(Element::value(&serde_json::from_str(rest).ok()?)),
            "i" => rest.parse::<u32>().ok().map(|_| Element(text.into())),
            _ => None,
        }
    }

    /// The field's name, if it is one.
    pub(super) fn name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }

    /// Appends the element as messages write it: `.field`, `[key="value"]`, `[="value"]`.
    fn write(&self, out: &mut String) {
        let (kind, rest) = self.0.split_once(':').unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = match kind {
            "f" => write!(out, ".{rest}"),
            "v" => write!(out, "[={rest}]"),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
                let all: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(out, "[{}]", all.join(","))
            }
            _ => write!(out, "[{rest}]"),
        };
    }
}

/// A set of paths. No node is without a meaning: each is a member or has members below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    nodes: BTreeMap<Element, Node>,
}

/// What is known of one element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Whether the path that ends here is in the set.
    pub(super) member: bool,
    /// Paths that go on from here.
    pub(super) below: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Set {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What is known of an element.
    pub(super) fn get(&self, element: &Element) -> Option<&Node> {
        self.nodes.get(element)
    }

    /// All elements at this level.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Element, &Node)> {
        self.nodes.iter()
    }

    /// Adds what is known of an element, if it means anything.
    pub(super) fn add(&mut self, element: Element, member: bool, below: Set) {
        if !member && below.is_empty() {
            return;
        }
        match self.nodes.entry(element) {
            // Taken as it is, so that a tree is built without going through it at each level.
            Entry::Vacant(place) => drop(place.insert(Node { member, below })),
            Entry::Occupied(mut known) => {
                let node = known.get_mut();
                node.member |= member;
                node.below.unite(below);
            }
        }
    }

    /// Adds all paths of another set.
    pub(super) fn unite(&mut self, other: Set) {
        if self.nodes.is_empty() {
            *self = other;
            return;
        }
        for (element, node) in other.nodes {
            self.add(element, node.member, node.below);
        }
    }

    /// The paths that are not in `other`.
    #[must_use]
    pub(super) fn minus(&self, other: &Set) -> Set {
        let mut left = self.clone();
        left.subtract(other);
        left
    }

    /// Takes out the paths that are in `other`.
    pub(super) fn subtract(&mut self, other: &Set) {
        for (element, theirs) in &other.nodes {
            let Some(node) = self.nodes.get_mut(element) else { continue };
            node.member &= !theirs.member;
            node.below.subtract(&theirs.below);
            if node.is_empty() {
                self.nodes.remove(element);
            }
        }
    }

    /// The paths that are in `other`, too.
    #[must_use]
    pub(super) fn and(&self, other: &Set) -> Set {
        // What changed is usually much smaller than what is owned.
        let (few, many) = if self.nodes.len() < other.nodes.len() { (self, other) } else { (other, self) };
        let mut out = Set::default();
        for (element, node) in &few.nodes {
            if let Some(theirs) = many.nodes.get(element) {
                out.add(element.clone(), node.member && theirs.member, node.below.and(&theirs.below));
            }
        }
        out
    }

    /// Takes out a field and everything below it.
    pub(super) fn remove_field(&mut self, name: &str) {
        self.nodes.remove(&Element::field(name));
    }

    /// Takes out fields of `metadata` (but not what is below them) and `metadata` itself.
    pub(super) fn remove_in_metadata(&mut self, fields: &[&str]) {
        let element = Element::field("metadata");
        let Some(node) = self.nodes.get_mut(&element) else { return };
        node.member = false;
        for field in fields {
            node.below.remove_field(field);
        }
        if node.is_empty() {
            self.nodes.remove(&element);
        }
    }

    /// How many paths there are.
    pub(super) fn count(&self) -> usize {
        self.nodes.values().map(|node| usize::from(node.member) + node.below.count()).sum()
    }

    /// The first paths in order, as messages write them, until they have more bytes than `room`, which becomes less. A hundred
    /// thousand paths may share a step of a megabyte.
    pub(super) fn paths(&self, room: &mut usize) -> Vec<String> {
        fn walk(set: &Set, prefix: &str, room: &mut usize, out: &mut Vec<String>) {
            for (element, node) in &set.nodes {
                if *room == 0 {
                    return;
                }
                let mut path = prefix.to_owned();
                element.write(&mut path);
                if node.member {
                    *room = room.saturating_sub(path.len());
                    out.push(path.clone());
                }
                walk(&node.below, &path, room, out);
            }
        }
        let mut out = Vec::new();
        walk(self, "", room, &mut out);
        out
    }

    /// Reads `fieldsV1`; `None` when it is malformed.
    pub(super) fn from_json(value: &Value) -> Option<Set> {
        fn read(value: &Value, depth: usize) -> Option<Node> {
            if depth > MAX_DEPTH {
                return None;
            }
            let fields = value.as_object()?;
            // A leaf is an empty object; a node with others below it says "." when it is a member.
            let mut node = Node { member: fields.is_empty(), below: Set::default() };
            for (text, value) in fields {
                if text == "." {
                    node.member = true;
                    continue;
                }
                let inner = read(value, depth + 1)?;
                node.below.add(Element::parse(text)?, inner.member, inner.below);
            }
            Some(node)
        }
        Some(read(value, 0)?.below)
    }

    /// The set as `fieldsV1`.
    pub(super) fn into_json(self) -> Value {
        fn fields(set: Set) -> Map<String, Value> {
            let field = |(element, node): (Element, Node)| {
                let names_itself = node.member && !node.below.is_empty();
                let mut inner = fields(node.below);
                if names_itself {
                    inner.insert(".".into(), Map::new().into());
                }
                (element.0.into_string(), inner.into())
            };
            set.nodes.into_iter().map(field).collect()
        }
        fields(self).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(value: Value) -> Set {
        Set::from_json(&value).unwrap()
    }

    #[test]
    fn json_there_and_back() {
        let fields =
            json!({"f:a": {".": {}, "f:b": {}}, "f:c": {"k:{\"name\":\"x\"}": {".": {}}, "v:1": {}}});
        let back = set(fields.clone()).into_json();
        assert_eq!(back["f:a"], fields["f:a"]);
        assert_eq!(back["f:c"]["k:{\"name\":\"x\"}"], json!({}));
        // Keys in another order and with spaces are the same keys.
        assert_eq!(set(json!({"k:{ \"b\":1, \"a\":2}": {}})), set(json!({"k:{\"a\":2,\"b\":1}": {}})));
        for wrong in [json!({"x": {}}), json!({"k:{": {}}), json!({"f:a": 1}), json!([])] {
            assert_eq!(Set::from_json(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn algebra() {
        let a = set(json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}}));
        let b = set(json!({"f:a": {"f:b": {}}, "f:e": {}}));
        assert_eq!(a.minus(&b), set(json!({"f:a": {".": {}, "f:c": {}}, "f:d": {}})));
        assert_eq!(a.and(&b), set(json!({"f:a": {"f:b": {}}})));
        let mut union = a.clone();
        union.unite(b);
        assert_eq!(union.paths(&mut 99), [".a", ".a.b", ".a.c", ".d", ".e"]);
        assert!(a.minus(&a).is_empty());
    }

    #[test]
    fn paths_read_as_upstream_writes_them() {
        let fields = json!({"f:spec": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {"f:name": {}}, "v:\"x\"": {}}});
        assert_eq!(
            set(fields).paths(&mut 99),
            [".spec[containerPort=80,protocol=\"TCP\"].name", ".spec[=\"x\"]"]
        );
    }
}
