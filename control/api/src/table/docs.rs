//! Descriptions of columns. Most are those of the fields that the columns show, which OpenAPI has already.

use crate::schema::registry;

/// The text of a column's description: what is said of a field for `type#field`, and any other text as it is.
pub(crate) fn describe(text: &'static str) -> &'static str {
    let Some((of, field)) = text.split_once('#') else { return text };
    ["io.k8s.api.", "io.k8s.apimachinery.pkg.apis."]
        .iter()
        .find_map(|package| registry().raw().get(&format!("{package}{of}")))
        .and_then(|schema| schema.get("properties")?.get(field)?.get("description")?.as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_columns_name_are_described() {
        for row in crate::resources() {
            for column in row.printer.columns {
                let text = describe(column.description);
                let silent = column.description.is_empty();
                assert!(silent || !text.is_empty(), "{row:?} {}", column.name);
            }
        }
        let kubelet = describe("core.v1.NodeSystemInfo#kubeletVersion");
        assert_eq!(kubelet, "Kubelet Version reported by the node.");
        assert_eq!(describe("The status of the node"), "The status of the node");
    }
}
