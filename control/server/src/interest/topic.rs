//! What a watch is about, as something that can be looked up, and what a change is about in the same words.

use carrack_api::select::{Operator, Selection, View};
use carrack_store::KeyRange;

/// The most values of one label or field that a watch is entered under; one that asks for more hears of all changes of
/// what it may see.
const MOST_VALUES: usize = 8;

/// A set of changes of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    /// Of any object.
    All,
    /// Of the object with this key.
    Key(Box<[u8]>),
    /// Of the objects of a namespace: what their keys begin with, up to and with the last slash.
    Under(Box<[u8]>),
    /// Of objects that have this label with this value, or had it before.
    Label(Box<str>, Box<str>),
    /// Of objects that have this selectable field with this value, or had it before; absent is empty.
    Field(Box<str>, Box<str>),
}

/// The topics which together hold every change that a watch with this selection of these keys can be interested in: as
/// narrow as can be told. `by_content` says whether labels and fields are those of the stored object.
pub(super) fn of_watch(
    keys: &KeyRange,
    in_namespace: bool,
    selection: &Selection,
    by_content: bool,
) -> Vec<Topic> {
    let place = match keys {
        KeyRange::One(key) => return vec![Topic::Key((**key).into())],
        KeyRange::Span { start, .. } if in_namespace => Topic::Under((**start).into()),
        _ => Topic::All,
    };
    if !by_content {
        return vec![place];
    }
    let field =
        selection.fields.terms().iter().find(|term| term.equal && !term.field.starts_with("metadata."));
    if let Some(term) = field {
        return vec![Topic::Field(term.field.as_str().into(), term.value.as_str().into())];
    }
    let mut listed = selection.labels.requirements().iter().filter(|asked| asked.operator == Operator::In);
    match listed.find(|asked| asked.values.len() <= MOST_VALUES) {
        Some(asked) => asked
            .values
            .iter()
            .map(|value| Topic::Label(asked.key.as_str().into(), value.as_str().into()))
            .collect(),
        None => vec![place],
    }
}

/// The topics of a change of the object with this key that do not depend on its content.
pub(super) fn of_key(key: &[u8]) -> [Topic; 3] {
    let directory = key.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    [Topic::All, Topic::Key(key.into()), Topic::Under(key[..directory].into())]
}

/// The topic of an object as to one label.
pub(super) fn of_label(view: &View, key: &str) -> Option<Topic> {
    view.label(key).map(|value| Topic::Label(key.into(), value.into()))
}

/// The topic of an object as to one field.
pub(super) fn of_field(view: &View, name: &str) -> Topic {
    Topic::Field(name.into(), view.field(name).unwrap_or_default().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::row;

    fn topics(labels: &str, fields: &str, namespace: &str) -> Vec<Topic> {
        let pods = row("", "pods").unwrap();
        let selection = Selection::parse(pods, labels, fields).unwrap();
        let keys = KeyRange::prefix(pods.list_prefix(namespace));
        of_watch(&keys, !namespace.is_empty(), &selection, true)
    }

    fn label(key: &str, value: &str) -> Topic {
        Topic::Label(key.into(), value.into())
    }

    #[test]
    fn a_watch_is_about_the_narrowest_that_can_be_told() {
        assert_eq!(topics("", "", ""), [Topic::All]);
        assert_eq!(topics("", "", "a"), [Topic::Under((*b"/registry/pods/a/").into())]);
        assert_eq!(topics("x=1", "", "a"), [label("x", "1")]);
        assert_eq!(topics("y,x in (1,2)", "", ""), [label("x", "1"), label("x", "2")]);
        let node = Topic::Field("spec.nodeName".into(), "n".into());
        assert_eq!(topics("x=1", "status.phase!=Failed,spec.nodeName=n", ""), [node]);
    }

    #[test]
    fn what_excludes_is_about_everything() {
        for labels in ["x!=1", "!x", "x", "x notin (1,2)", "x in (1,2,3,4,5,6,7,8,9)"] {
            assert_eq!(topics(labels, "", ""), [Topic::All], "{labels}");
        }
        assert_eq!(topics("", "spec.nodeName!=n", ""), [Topic::All]);
    }

    #[test]
    fn one_key_is_its_own_topic_and_content_can_be_left_out() {
        let pods = row("", "pods").unwrap();
        let selection = Selection::parse(pods, "x=1", "").unwrap();
        let key = KeyRange::key("/registry/pods/a/p");
        assert_eq!(of_watch(&key, true, &selection, true), [Topic::Key((*b"/registry/pods/a/p").into())]);
        let all = KeyRange::prefix("/registry/pods/");
        assert_eq!(of_watch(&all, false, &selection, false), [Topic::All]);
    }

    #[test]
    fn a_change_is_found_under_the_topics_of_its_watches() {
        let [all, key, under] = of_key(b"/registry/pods/a/p");
        assert_eq!(all, Topic::All);
        assert_eq!(key, Topic::Key((*b"/registry/pods/a/p").into()));
        assert_eq!([under], *topics("", "", "a"));
    }
}
