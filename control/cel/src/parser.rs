//! Makes a tree of an expression: the grammar of CEL's language definition, by recursive descent.

use crate::ast::{Kind, Node};
use crate::error::{CompileError, Issue};
use crate::lexer::{Token, tokens};
use crate::macros;
use crate::value::Value;
use crate::words::is_reserved;

/// How deep expressions may be nested; a chain of operators counts too. Upstream's limit.
pub(crate) const MAX_DEPTH: u16 = 250;
/// How deep brackets may be nested: each takes some frames of the stack, and threads have 2 MiB of it.
pub(crate) const MAX_NESTING: u16 = 100;
/// How many characters an expression may have.
pub(crate) const MAX_SOURCE: usize = 100_000;

/// Operators with two sides: how strongly they bind, and the function they are.
const BINARY: &[(&str, u8, &str)] = &[
    ("||", 1, "_||_"),
    ("&&", 2, "_&&_"),
    ("==", 3, "_==_"),
    ("!=", 3, "_!=_"),
    ("<", 3, "_<_"),
    ("<=", 3, "_<=_"),
    (">", 3, "_>_"),
    (">=", 3, "_>=_"),
    ("in", 3, "@in"),
    ("+", 4, "_+_"),
    ("-", 4, "_-_"),
    ("*", 5, "_*_"),
    ("/", 5, "_/_"),
    ("%", 5, "_%_"),
];
/// What can begin a value, for messages.
const BEGINNINGS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                          BYTES, IDENTIFIER}";

/// The tree of an expression.
pub(crate) fn parse(source: &str) -> Result<Node, CompileError> {
    let fail = |issue| CompileError::new(source, vec![issue]);
    let length = source.chars().count();
    if length > MAX_SOURCE {
        let message = format!("expression code point size exceeds limit: size: {length}, limit {MAX_SOURCE}");
        return Err(CompileError::new("", vec![Issue { at: 0, message }]));
    }
    let tokens = tokens(source).map_err(fail)?;
    let mut parser = Parser { tokens, next: 0, depth: 0 };
    let (node, _) = parser.whole().map_err(fail)?;
    Ok(node)
}

/// A node and how deep it is.
pub(crate) type Deep = (Node, u16);

pub(crate) struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    depth: u16,
}

/// A node above others that are at most `below` deep.
pub(crate) fn above(at: usize, kind: Kind, below: u16) -> Result<Deep, Issue> {
    if below >= MAX_DEPTH {
        return Err(too_deep(at, MAX_DEPTH));
    }
    Ok((Node::new(at, kind), below + 1))
}

fn too_deep(at: usize, limit: u16) -> Issue {
    Issue { at, message: format!("expression recursion limit exceeded: {limit}") }
}

impl Parser {
    fn whole(&mut self) -> Result<Deep, Issue> {
        let node = self.expression()?;
        match self.peek() {
            Token::End => Ok(node),
            other => {
                let message = format!("extraneous input '{}' expecting <EOF>", other.shown());
                Err(self.issue(message))
            }
        }
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(token, _)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |(_, at)| *at)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn issue(&self, message: impl Into<String>) -> Issue {
        Issue { at: self.at(), message: format!("Syntax error: {}", message.into()) }
    }

    fn accept(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        if found {
            self.next += 1;
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Issue> {
        if self.accept(sign) {
            return Ok(());
        }
        Err(self.issue(format!("mismatched input '{}' expecting '{sign}'", self.peek().shown())))
    }

    /// With the choice `a ? b : c`, which binds weakest.
    fn expression(&mut self) -> Result<Deep, Issue> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(too_deep(self.at(), MAX_NESTING));
        }
        let (condition, depth) = self.binary(1)?;
        let at = self.at();
        let node = if self.accept("?") {
            let (then, then_depth) = self.binary(1)?;
            self.expect(":")?;
            let (otherwise, other_depth) = self.expression()?;
            let parts = Box::new([condition, then, otherwise]);
            above(at, Kind::Choose(parts), depth.max(then_depth).max(other_depth))?
        } else {
            (condition, depth)
        };
        self.depth -= 1;
        Ok(node)
    }

    fn operator(&self) -> Option<(u8, &'static str)> {
        let found = match self.peek() {
            Token::Sign(sign) => *sign,
            Token::Ident(word) if word == "in" => "in",
            _ => return None,
        };
        BINARY.iter().find(|(sign, ..)| *sign == found).map(|(_, strength, name)| (*strength, *name))
    }

    /// Operators that bind at least so strongly.
    fn binary(&mut self, weakest: u8) -> Result<Deep, Issue> {
        let (mut left, mut depth) = self.unary()?;
        while let Some((strength, name)) = self.operator().filter(|(strength, _)| *strength >= weakest) {
            let at = self.at();
            self.next += 1;
            let (right, right_depth) = self.binary(strength + 1)?;
            (left, depth) = combine(at, name, (left, depth), (right, right_depth))?;
        }
        Ok((left, depth))
    }

    fn unary(&mut self) -> Result<Deep, Issue> {
        let at = self.at();
        for (sign, name) in [("!", "!_"), ("-", "-_")] {
            let mut count = 0;
            while self.accept(sign) {
                count += 1;
            }
            if count == 0 {
                continue;
            }
            if sign == "-"
                && count == 1
                && let Some(literal) = self.negative(at)?
            {
                return self.member((literal, 1));
            }
            let operand = self.postfix()?;
            // Two of them cancel out.
            if count % 2 == 0 {
                return Ok(operand);
            }
            return above(at, call(name, None, vec![operand.0]), operand.1);
        }
        self.postfix()
    }

    /// A number after a minus sign.
    fn negative(&mut self, at: usize) -> Result<Option<Node>, Issue> {
        let value = match self.peek() {
            Token::Int(number) => match 0i64.checked_sub_unsigned(*number) {
                Some(number) => Value::Int(number),
                None => return Err(Issue { at, message: "invalid int literal".to_owned() }),
            },
            Token::Double(number) => Value::Double(-number),
            _ => return Ok(None),
        };
        self.next += 1;
        Ok(Some(Node::new(at, Kind::Literal(value))))
    }

    fn postfix(&mut self) -> Result<Deep, Issue> {
        let primary = self.primary()?;
        self.member(primary)
    }

    /// What follows a value: fields, calls, indices.
    fn member(&mut self, (mut node, mut depth): Deep) -> Result<Deep, Issue> {
        loop {
            let at = self.at();
            if self.accept(".") {
                let optional = self.accept("?");
                let name_at = self.at();
                let (field, quoted) = match self.take() {
                    Token::Ident(name) => (name, false),
                    Token::Quoted(name) => (name, true),
                    other => {
                        let shown = other.shown();
                        let message =
                            format!("Syntax error: mismatched input '{shown}' expecting IDENTIFIER");
                        return Err(Issue { at: name_at, message });
                    }
                };
                let open = self.at();
                if !quoted && !optional && self.accept("(") {
                    let (args, args_depth) = self.list(")")?;
                    let below = depth.max(args_depth);
                    (node, depth) = macros::member(open, node, field, args, below)?;
                } else {
                    let kind = Kind::Select { operand: Box::new(node), field, optional };
                    (node, depth) = above(at, kind, depth)?;
                }
            } else if self.accept("[") {
                let optional = self.accept("?");
                let (index, index_depth) = self.expression()?;
                self.expect("]")?;
                let kind = Kind::Index { operand: Box::new(node), index: Box::new(index), optional };
                (node, depth) = above(at, kind, depth.max(index_depth))?;
            } else if matches!(self.peek(), Token::Sign("{")) && struct_name(&node).is_some() {
                let name = struct_name(&node).unwrap_or_default();
                self.next += 1;
                (node, depth) = self.fields(at, name)?;
            } else {
                return Ok((node, depth));
            }
        }
    }

    /// Expressions up to a closing bracket.
    fn list(&mut self, close: &str) -> Result<(Vec<Node>, u16), Issue> {
        let (mut nodes, mut depth) = (Vec::new(), 0);
        while !self.accept(close) {
            let (node, below) = self.expression()?;
            nodes.push(node);
            depth = depth.max(below);
            if !self.accept(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok((nodes, depth))
    }

    fn primary(&mut self) -> Result<Deep, Issue> {
        let at = self.at();
        let value = match self.take() {
            Token::Sign("(") => {
                let node = self.expression()?;
                self.expect(")")?;
                return Ok(node);
            }
            Token::Sign("[") => return self.list_literal(at),
            Token::Sign("{") => return self.map_literal(at),
            // A leading dot names what is outside of all containers; there are none.
            Token::Sign(".") => {
                let at = self.at();
                return match self.take() {
                    Token::Ident(name) => self.name(at, name),
                    other => Err(Issue {
                        at,
                        message: format!(
                            "Syntax error: mismatched input '{}' expecting IDENTIFIER",
                            other.shown()
                        ),
                    }),
                };
            }
            Token::Ident(name) => return self.name(at, name),
            Token::Int(number) => match i64::try_from(number) {
                Ok(number) => Value::Int(number),
                Err(_) => return Err(Issue { at, message: "invalid int literal".to_owned() }),
            },
            Token::Uint(number) => Value::Uint(number),
            Token::Double(number) => Value::Double(number),
            Token::Text(text) => Value::text(text),
            Token::Bytes(bytes) => Value::Bytes(bytes.into()),
            other => {
                let message = format!("mismatched input '{}' expecting {BEGINNINGS}", other.shown());
                return Err(Issue { at, message: format!("Syntax error: {message}") });
            }
        };
        above(at, Kind::Literal(value), 0)
    }

    fn name(&mut self, at: usize, name: String) -> Result<Deep, Issue> {
        let literal = match name.as_str() {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" => Some(Value::Null),
            _ => None,
        };
        if let Some(literal) = literal {
            return above(at, Kind::Literal(literal), 0);
        }
        if name == "in" {
            return Err(Issue {
                at,
                message: format!("Syntax error: mismatched input 'in' expecting {BEGINNINGS}"),
            });
        }
        if is_reserved(&name) {
            return Err(Issue { at, message: format!("reserved identifier: {name}") });
        }
        let open = self.at();
        if self.accept("(") {
            let (args, depth) = self.list(")")?;
            return macros::global(open, name, args, depth);
        }
        above(at, Kind::Ident(name), 0)
    }

    fn list_literal(&mut self, at: usize) -> Result<Deep, Issue> {
        let (mut elements, mut depth) = (Vec::new(), 0);
        while !self.accept("]") {
            let optional = self.accept("?");
            let (node, below) = self.expression()?;
            elements.push((node, optional));
            depth = depth.max(below);
            if !self.accept(",") {
                self.expect("]")?;
                break;
            }
        }
        above(at, Kind::List(elements), depth)
    }

    fn map_literal(&mut self, at: usize) -> Result<Deep, Issue> {
        let (mut entries, mut depth) = (Vec::new(), 0);
        while !self.accept("}") {
            let optional = self.accept("?");
            let (key, key_depth) = self.expression()?;
            self.expect(":")?;
            let (value, value_depth) = self.expression()?;
            entries.push((key, value, optional));
            depth = depth.max(key_depth).max(value_depth);
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        above(at, Kind::Map(entries), depth)
    }

    fn fields(&mut self, at: usize, name: String) -> Result<Deep, Issue> {
        let (mut fields, mut depth) = (Vec::new(), 0);
        while !self.accept("}") {
            let optional = self.accept("?");
            let field = match self.take() {
                Token::Ident(field) | Token::Quoted(field) => field,
                other => {
                    self.next -= 1;
                    let message = format!("mismatched input '{}' expecting IDENTIFIER", other.shown());
                    return Err(self.issue(message));
                }
            };
            self.expect(":")?;
            let (value, below) = self.expression()?;
            fields.push((field, value, optional));
            depth = depth.max(below);
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        above(at, Kind::Struct { name, fields }, depth)
    }
}

/// A call of a function by name.
pub(crate) fn call(name: &str, target: Option<Node>, args: Vec<Node>) -> Kind {
    Kind::Call { function: name.to_owned(), target: target.map(Box::new), args, rows: Vec::new() }
}

fn combine(at: usize, name: &str, left: Deep, right: Deep) -> Result<Deep, Issue> {
    let depth = left.1.max(right.1);
    // Chains of these are one node, however long they are.
    let (parts, depth) = match (name, left) {
        ("_&&_", (Node { kind: Kind::And(mut parts), .. }, own)) => {
            parts.push(right.0);
            (parts, own.saturating_sub(1).max(right.1))
        }
        ("_||_", (Node { kind: Kind::Or(mut parts), .. }, own)) => {
            parts.push(right.0);
            (parts, own.saturating_sub(1).max(right.1))
        }
        (_, left) => (vec![left.0, right.0], depth),
    };
    let kind = match name {
        "_&&_" => Kind::And(parts),
        "_||_" => Kind::Or(parts),
        _ => call(name, None, parts),
    };
    above(at, kind, depth)
}

/// The name that a node spells: `a.b.c`.
pub(crate) fn spelled(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Ident(name) => Some(name.clone()),
        Kind::Select { operand, field, optional: false } => Some(format!("{}.{field}", spelled(operand)?)),
        _ => None,
    }
}

/// The name of a type before `{`: one that begins like the types that expressions can make.
fn struct_name(node: &Node) -> Option<String> {
    spelled(node)
}
