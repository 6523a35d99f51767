//! Splits an expression into tokens: the language definition of CEL, "Lexis".

use crate::error::Issue;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    /// In backquotes: a field's name of any form.
    Quoted(String),
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// An operator or bracket.
    Sign(&'static str),
    End,
}

impl Token {
    /// As messages name it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Token::Ident(name) | Token::Quoted(name) => name.clone(),
            Token::Int(number) => number.to_string(),
            Token::Uint(number) => format!("{number}u"),
            Token::Double(number) => number.to_string(),
            Token::Text(text) => format!("{text:?}"),
            Token::Bytes(_) => "bytes".to_owned(),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::End => "<EOF>".to_owned(),
        }
    }
}

/// Longer ones first.
const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}",
];

/// The tokens with their places; the last one is [`Token::End`].
pub(crate) fn tokens(source: &str) -> Result<Vec<(Token, usize)>, Issue> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip();
        let at = lexer.at;
        let token = lexer.next()?;
        let end = token == Token::End;
        tokens.push((token, at));
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn issue(&self, at: usize, message: impl Into<String>) -> Issue {
        Issue { at, message: format!("Syntax error: {}", message.into()) }
    }

    fn skip(&mut self) {
        while let Some(c) = self.peek(0) {
            if c == '/' && self.peek(1) == Some('/') {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
            } else if matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}') {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    fn next(&mut self) -> Result<Token, Issue> {
        let Some(c) = self.peek(0) else { return Ok(Token::End) };
        if let Some(prefix) = self.string_prefix() {
            return self.string(prefix);
        }
        if c.is_ascii_digit() || (c == '.' && self.peek(1).is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if c.is_ascii_alphabetic() || c == '_' {
            return Ok(Token::Ident(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')));
        }
        if c == '`' {
            self.at += 1;
            let name =
                self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' '));
            if self.peek(0) != Some('`') {
                return Err(self.issue(self.at, "a name in backquotes does not end"));
            }
            self.at += 1;
            return Ok(Token::Quoted(name));
        }
        for sign in SIGNS {
            if sign.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c)) {
                self.at += sign.len();
                return Ok(Token::Sign(sign));
            }
        }
        Err(self.issue(self.at, format!("token recognition error at: '{c}'")))
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(&wanted) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    /// How many characters stand before the quote of a string, when one begins here.
    fn string_prefix(&self) -> Option<usize> {
        let mut ahead = 0;
        while ahead < 2 && self.peek(ahead).is_some_and(|c| matches!(c, 'r' | 'R' | 'b' | 'B')) {
            ahead += 1;
        }
        self.peek(ahead).filter(|c| matches!(c, '"' | '\'')).map(|_| ahead)
    }

    fn number(&mut self) -> Result<Token, Issue> {
        let start = self.at;
        if self.peek(0) == Some('0') && matches!(self.peek(1), Some('x' | 'X')) {
            self.at += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            return self.whole(start, u64::from_str_radix(&digits, 16).ok());
        }
        let mut text = self.take_while(|c| c.is_ascii_digit());
        let mut double = false;
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            double = true;
            self.at += 1;
            text.push('.');
            text += &self.take_while(|c| c.is_ascii_digit());
        }
        let signed = usize::from(matches!(self.peek(1), Some('+' | '-')));
        if matches!(self.peek(0), Some('e' | 'E'))
            && self.peek(1 + signed).is_some_and(|c| c.is_ascii_digit())
        {
            double = true;
            text.extend(&self.chars[self.at..=self.at + signed]);
            self.at += 1 + signed;
            text += &self.take_while(|c| c.is_ascii_digit());
        }
        if !double {
            return self.whole(start, text.parse().ok());
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Token::Double(number)),
            _ => Err(Issue { at: start, message: "invalid double literal".to_owned() }),
        }
    }

    fn whole(&mut self, start: usize, number: Option<u64>) -> Result<Token, Issue> {
        let unsigned = matches!(self.peek(0), Some('u' | 'U'));
        if unsigned {
            self.at += 1;
        }
        match number {
            Some(number) if unsigned => Ok(Token::Uint(number)),
            Some(number) => Ok(Token::Int(number)),
            None => {
                let kind = if unsigned { "uint" } else { "int" };
                Err(Issue { at: start, message: format!("invalid {kind} literal") })
            }
        }
    }

    fn string(&mut self, prefix: usize) -> Result<Token, Issue> {
        let start = self.at;
        let flags: String = self.chars[self.at..self.at + prefix].iter().collect::<String>().to_lowercase();
        self.at += prefix;
        let (raw, bytes) = (flags.contains('r'), flags.contains('b'));
        let quote = self.peek(0).unwrap_or('"');
        let triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        let width = if triple { 3 } else { 1 };
        self.at += width;
        let mut out = Vec::new();
        loop {
            let Some(c) = self.peek(0) else {
                return Err(self.issue(start, format!("token recognition error at: '{quote}'")));
            };
            if c == quote && (0..width).all(|ahead| self.peek(ahead) == Some(quote)) {
                self.at += width;
                break;
            }
            if c == '\n' && !triple {
                return Err(self.issue(start, "a string in single quotes does not end on its line"));
            }
            self.at += 1;
            if c == '\\' && !raw {
                self.escape(bytes, &mut out)?;
            } else {
                push(&mut out, c);
            }
        }
        if bytes {
            return Ok(Token::Bytes(out));
        }
        String::from_utf8(out).map(Token::Text).map_err(|_| self.issue(start, "invalid string literal"))
    }

    /// What follows a backslash.
    fn escape(&mut self, bytes: bool, out: &mut Vec<u8>) -> Result<(), Issue> {
        let at = self.at - 1;
        let wrong = |lexer: &Self| lexer.issue(at, "unable to unescape string");
        let c = self.peek(0).ok_or_else(|| wrong(self))?;
        self.at += 1;
        let simple = match c {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '\'' | '"' | '?' | '`' => c,
            'x' | 'X' => return self.code(2, 16, bytes, out).ok_or_else(|| wrong(self)),
            'u' if !bytes => return self.code(4, 16, false, out).ok_or_else(|| wrong(self)),
            'U' if !bytes => return self.code(8, 16, false, out).ok_or_else(|| wrong(self)),
            '0'..='3' => {
                self.at -= 1;
                return self.code(3, 8, bytes, out).ok_or_else(|| wrong(self));
            }
            _ => return Err(wrong(self)),
        };
        push(out, simple);
        Ok(())
    }

    fn code(&mut self, digits: usize, radix: u32, bytes: bool, out: &mut Vec<u8>) -> Option<()> {
        let mut value = 0u32;
        for _ in 0..digits {
            value = value.checked_mul(radix)? + self.peek(0)?.to_digit(radix)?;
            self.at += 1;
        }
        if bytes {
            out.push(u8::try_from(value).ok()?);
        } else {
            push(out, char::from_u32(value)?);
        }
        Some(())
    }
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
