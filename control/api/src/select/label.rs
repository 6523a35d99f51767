//! Label selectors: the string form of queries and the structured form of objects.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta_v1;
use serde::Deserialize;
use serde_json::Value;

use super::SelectorError;
use crate::names;

/// What a requirement asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is there, with one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is an integer above the value.
    GreaterThan,
    /// The label is an integer below the value.
    LessThan,
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// What is asked.
    pub operator: Operator,
    /// Values, sorted; empty for the existence operators.
    pub values: Vec<String>,
    /// Whether it was written with `=` or `==`, which only matters for writing it again.
    equality: bool,
}

impl Requirement {
    /// A checked requirement.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, SelectorError> {
        let wrong = names::qualified_name(key);
        if !wrong.is_empty() {
            return Err(SelectorError::Invalid(format!("key: Invalid value: {key:?}: {}", wrong.join("; "))));
        }
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return Err(SelectorError::Invalid(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
                        .into(),
                ));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return Err(SelectorError::Invalid(
                    "values: values set must be empty for exists and does not exist".into(),
                ));
            }
            Operator::GreaterThan | Operator::LessThan
                if values.len() != 1 || values[0].parse::<i64>().is_err() =>
            {
                return Err(SelectorError::Invalid(
                    "values[0]: Invalid value: for 'Gt', 'Lt' operators, the value must be an integer".into(),
                ));
            }
            _ => {}
        }
        for (at, value) in values.iter().enumerate() {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                let why = wrong.join("; ");
                return Err(SelectorError::Invalid(format!(
                    "values[{at}][{key}]: Invalid value: {value:?}: {why}"
                )));
            }
        }
        values.sort_unstable();
        values.dedup();
        Ok(Requirement { key: key.to_owned(), operator, values, equality: false })
    }

    /// Whether an object with that value of the label (or none) meets the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|wanted| wanted == v);
        let compared = |wanted: fn(&i64, &i64) -> bool| {
            let found = value.and_then(|v| v.parse::<i64>().ok());
            let bound = self.values.first().and_then(|v| v.parse().ok());
            found.zip(bound).is_some_and(|(found, bound)| wanted(&found, &bound))
        };
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compared(i64::gt),
            Operator::LessThan => compared(i64::lt),
        }
    }
}

/// Requirements that all have to be met. No requirement matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    /// A null selector in an object matches nothing.
    nothing: bool,
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches no object.
    pub fn nothing() -> Self {
        LabelSelector { requirements: Vec::new(), nothing: true }
    }

    /// Reads the string form: `a=b,c in (d,e),!f`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Parser { rest: text }.requirements()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(LabelSelector { requirements, nothing: false })
    }

    /// The selector that a `metav1.LabelSelector` stands for.
    pub fn from_typed(selector: &meta_v1::LabelSelector) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            let mut requirement = Requirement::new(key, Operator::In, vec![value.clone()])?;
            requirement.equality = true;
            requirements.push(requirement);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError::Invalid(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(LabelSelector { requirements, nothing: false })
    }

    /// The selector in an object's field, in either form: a `LabelSelector`, or the plain map of labels that
    /// ReplicationControllers have. Absent or null matches nothing.
    pub fn from_value(selector: Option<&Value>) -> Result<Self, SelectorError> {
        match selector {
            None | Some(Value::Null) => Ok(Self::nothing()),
            Some(Value::Object(labels)) if !labels.is_empty() && labels.values().all(Value::is_string) => {
                let pairs = labels.iter().map(|(key, value)| (&**key, value.as_str().unwrap_or_default()));
                let mut selector = Self::from_map(pairs)?;
                selector.requirements.sort_by(|a, b| a.key.cmp(&b.key));
                Ok(selector)
            }
            Some(value) => {
                let typed = meta_v1::LabelSelector::deserialize(value)
                    .map_err(|why| SelectorError::Syntax(why.to_string()))?;
                Self::from_typed(&typed)
            }
        }
    }

    /// The selector of a plain map, as services have it; empty matches everything.
    pub fn from_map<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in labels {
            let mut requirement = Requirement::new(key, Operator::In, vec![value.to_owned()])?;
            requirement.equality = true;
            requirements.push(requirement);
        }
        Ok(LabelSelector { requirements, nothing: false })
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// What is required.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object matches, whose labels `label` looks up.
    pub fn matches<'v>(&self, label: impl Fn(&str) -> Option<&'v str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(label(&r.key)))
    }
}

impl fmt::Display for LabelSelector {
    /// The string form, which [`LabelSelector::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            let Requirement { key, operator, values, equality } = requirement;
            let joined = values.join(",");
            match operator {
                Operator::In if *equality => write!(f, "{key}={joined}")?,
                Operator::NotIn if *equality => write!(f, "{key}!={joined}")?,
                Operator::In => write!(f, "{key} in ({joined})")?,
                Operator::NotIn => write!(f, "{key} notin ({joined})")?,
                Operator::Exists => write!(f, "{key}")?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::GreaterThan => write!(f, "{key}>{joined}")?,
                Operator::LessThan => write!(f, "{key}<{joined}")?,
            }
        }
        Ok(())
    }
}

/// Reads the string form from left to right.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn requirements(mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut out = Vec::new();
        self.space();
        if self.rest.is_empty() {
            return Ok(out);
        }
        loop {
            out.push(self.requirement()?);
            self.space();
            if self.rest.is_empty() {
                return Ok(out);
            }
            if !self.take(",") {
                return Err(self.unexpected("',' or 'end of string'"));
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        self.space();
        if self.take("!") {
            let key = self.word();
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        let key = self.word();
        if key.is_empty() {
            return Err(self.unexpected("!, identifier"));
        }
        self.space();
        for (sign, operator) in [("==", Operator::In), ("=", Operator::In), ("!=", Operator::NotIn)] {
            if self.take(sign) {
                let value = self.word().to_owned();
                let mut requirement = Requirement::new(key, operator, vec![value])?;
                requirement.equality = true;
                return Ok(requirement);
            }
        }
        for (sign, operator) in [(">", Operator::GreaterThan), ("<", Operator::LessThan)] {
            if self.take(sign) {
                let value = self.word().to_owned();
                return Requirement::new(key, operator, vec![value]);
            }
        }
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        let operator = match self.word() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            other => {
                let found = if other.is_empty() { self.rest } else { other };
                let why = format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt");
                return Err(SelectorError::Syntax(why));
            }
        };
        let values = self.values()?;
        Requirement::new(key, operator, values)
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        self.space();
        if !self.take("(") {
            return Err(self.unexpected("'('"));
        }
        let mut out = Vec::new();
        loop {
            out.push(self.word().to_owned());
            self.space();
            if self.take(")") {
                return Ok(out);
            }
            if !self.take(",") {
                return Err(self.unexpected("',', ')' or identifier"));
            }
        }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn take(&mut self, sign: &str) -> bool {
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        self.space();
        let stops = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n' | '=' | '!' | '(' | ')' | ',' | '>' | '<');
        let end = self.rest.find(stops).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn unexpected(&self, expected: &str) -> SelectorError {
        SelectorError::Syntax(format!("found '{}', expected: {expected}", self.rest))
    }
}
