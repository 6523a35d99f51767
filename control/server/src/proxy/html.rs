//! Pages in HTML: attributes that are URLs are rewritten, everything else stays as it is, byte for byte. What is a tag
//! is told as browsers do (HTML, 13.2.5), as far as that takes to find attributes.

/// Which attributes of which tags are URLs; upstream's table.
const URLS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Tags whose content is text up to their end.
const RAW: &[&str] = &["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"];

/// The page with each URL that `fix` has another one for replaced.
pub(crate) fn rewrite(page: &[u8], fix: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let mut scanner =
        Scanner { page, at: 0, out: Vec::with_capacity(page.len() + page.len() / 8), copied: 0 };
    while let Some(open) = scanner.find(b"<") {
        scanner.at = open + 1;
        match page.get(scanner.at) {
            Some(b'!') if page[scanner.at..].starts_with(b"!--") => scanner.skip_past(b"-->"),
            Some(b'!' | b'/' | b'?') => scanner.skip_past(b">"),
            Some(letter) if letter.is_ascii_alphabetic() => scanner.tag(&fix),
            _ => {}
        }
    }
    scanner.copy_to(page.len());
    scanner.out
}

struct Scanner<'a> {
    page: &'a [u8],
    at: usize,
    out: Vec<u8>,
    /// How much of the page is in `out`.
    copied: usize,
}

impl Scanner<'_> {
    fn find(&self, what: &[u8]) -> Option<usize> {
        let left = self.page.get(self.at..)?;
        left.windows(what.len()).position(|window| window == what).map(|at| self.at + at)
    }

    fn skip_past(&mut self, what: &[u8]) {
        self.at = self.find(what).map_or(self.page.len(), |at| at + what.len());
    }

    fn copy_to(&mut self, to: usize) {
        self.out.extend_from_slice(&self.page[self.copied..to]);
        self.copied = to;
    }

    fn peek(&self) -> Option<u8> {
        self.page.get(self.at).copied()
    }

    /// What follows up to a byte of which `is_end` says so.
    fn word(&mut self, is_end: impl Fn(u8) -> bool) -> (usize, usize) {
        let start = self.at;
        while self.peek().is_some_and(|byte| !is_end(byte)) {
            self.at += 1;
        }
        (start, self.at)
    }

    fn lower(&self, (start, end): (usize, usize)) -> String {
        String::from_utf8_lossy(&self.page[start..end]).to_ascii_lowercase()
    }

    /// A start tag, from its name on.
    fn tag(&mut self, fix: &impl Fn(&str) -> Option<String>) {
        let word = self.word(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>'));
        let name = self.lower(word);
        let urls = URLS.iter().find(|(tag, _)| *tag == name).map_or(&[][..], |(_, urls)| urls);
        loop {
            self.word(|byte| !byte.is_ascii_whitespace() && byte != b'/');
            match self.peek() {
                None => return,
                Some(b'>') => break self.at += 1,
                Some(_) => self.attribute(urls, fix),
            }
        }
        if RAW.contains(&name.as_str()) {
            self.skip_text(&name);
        }
    }

    fn attribute(&mut self, urls: &[&str], fix: &impl Fn(&str) -> Option<String>) {
        let start = self.at;
        // A name may begin with an equals sign, and with nothing that ends it.
        self.at += 1;
        let (_, end) = self.word(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>' | b'='));
        let name = self.lower((start, end));
        self.word(|byte| !byte.is_ascii_whitespace());
        if self.peek() != Some(b'=') {
            return;
        }
        self.at += 1;
        self.word(|byte| !byte.is_ascii_whitespace());
        let (start, end) = match self.peek() {
            Some(quote @ (b'"' | b'\'')) => {
                self.at += 1;
                let value = self.word(|byte| byte == quote);
                self.at = (self.at + 1).min(self.page.len());
                value
            }
            _ => self.word(|byte| byte.is_ascii_whitespace() || byte == b'>'),
        };
        if urls.contains(&name.as_str())
            && let Ok(link) = std::str::from_utf8(&self.page[start..end])
            && let Some(new) = fix(link)
        {
            self.copy_to(start);
            self.out.extend_from_slice(new.as_bytes());
            self.copied = end;
        }
    }

    /// Text up to the end tag of this name.
    fn skip_text(&mut self, name: &str) {
        while let Some(end) = self.find(b"</") {
            let after = end + 2;
            let found = self.page.get(after..after + name.len());
            if found.is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes())) {
                self.at = end;
                return;
            }
            self.at = after;
        }
        self.at = self.page.len();
    }
}
