//! What differs between any two servers: ids, ports, terms, times.

/// Masks a line of output.
pub(crate) fn line(text: &str, endpoint: &str, dir: &str) -> Option<String> {
    if text.starts_with("{\"level\":") {
        // A line of log: the error is what matters.
        let log: serde_json::Value = serde_json::from_str(text).expect("a line of log");
        return log.get("error").map(|error| numbers(&error.to_string().replace(endpoint, "<endpoint>")));
    }
    let text = text.replace(endpoint, "<endpoint>").replace(dir, "<dir>");
    let text = match text.split_once("took = ") {
        Some((before, _)) => format!("{before}took"),
        None => text,
    };
    let mut masked = text;
    for name in [
        "\"raft_term\":",
        "\"RaftTerm\" : ",
        "\"cluster_id\":",
        "\"ClusterID\" : ",
        "\"member_id\":",
        "\"MemberID\" : ",
    ] {
        masked = after(&masked, name);
    }
    Some(numbers(&masked))
}

/// Masks the number behind `name`, wherever it stands.
pub(crate) fn after(text: &str, name: &str) -> String {
    let mut parts = text.split(name);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked += name;
        masked += "<id>";
        masked += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    masked
}

/// Masks words of hexadecimal digits that are long enough to be ids.
pub(crate) fn numbers(text: &str) -> String {
    let mut masked = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        let digits = word.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        if digits.len() >= 13 && digits.contains(|c: char| c.is_ascii_digit()) {
            masked += "<id>";
            masked += &word[digits.len()..];
        } else {
            masked += word;
        }
    }
    masked
}

/// Masks all numbers: what is left is the shape.
pub(crate) fn shape(text: &str) -> String {
    let mut masked = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_digit() && c != '.') {
        let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit() && c != '.');
        masked += if digits.is_empty() { "" } else { "<number>" };
        masked += &word[digits.len()..];
    }
    masked.replace(" kB", "").replace(" MB", "")
}
