//! Server-sent events, as the HTML standard has them.

/// What to do after a piece of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    More,
    /// That was the last piece that matters: what follows is read only to keep the connection.
    Enough,
    /// Leave the rest, and the connection.
    Stop,
    /// Go on once the host has heard what came.
    Pause,
}

/// An event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'b> {
    pub data: &'b [u8],
    /// Whether it is named `error`.
    pub is_error: bool,
}

/// Splits a stream of bytes into events, as the HTML standard says (section 9.2.6, "Interpreting
/// an event stream"): lines end with CR, LF or CRLF, one byte order mark may come first, lines
/// that begin with a colon are comments, an empty line ends an event, and several `data` fields
/// are joined by line feeds. It differs in one thing: data at the end of the stream that no empty
/// line follows isn't dropped but left to [`Parser::rest`].
///
/// An event of one line that came in one piece, as nearly all do, is handed out where it lies.
#[derive(Debug, Default)]
pub struct Parser {
    /// A line that hasn't ended yet.
    line: Vec<u8>,
    /// The data of an event that hasn't ended yet.
    data: Vec<u8>,
    has_data: bool,
    is_error: bool,
    /// The last byte was a CR, so an LF right after it belongs to the same line end.
    after_cr: bool,
    started: bool,
}

impl Parser {
    /// Takes the next bytes, and hands out each event that they complete, until `each` doesn't
    /// want more. How many bytes it took.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Event<'_>) -> Flow) -> (usize, Flow) {
        // The data of an event of which all came in `bytes`: not copied until that is sure.
        let mut whole: Option<&[u8]> = None;
        let mut left = bytes;
        let mut flow = Flow::More;
        while let Some(&first) = left.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                left = &left[1..];
                continue;
            }
            let Some(end) = memchr::memchr2(b'\r', b'\n', left) else {
                self.line.extend_from_slice(left);
                left = &[];
                break;
            };
            let begun = std::mem::take(&mut self.line);
            let here = &left[..end];
            self.after_cr = left[end] == b'\r';
            left = &left[end + 1..];
            if begun.is_empty() {
                self.line = begun;
                let line = self.without_mark(here);
                if line.is_empty() {
                    flow = self.end_event(whole.take(), &mut each);
                } else if let Some(value) = field(line, b"data") {
                    match whole.take() {
                        None if !self.has_data => whole = Some(value),
                        earlier => {
                            earlier.into_iter().for_each(|data| self.add(data));
                            self.add(value);
                        }
                    }
                } else {
                    self.other(line);
                }
            } else {
                let mut line = begun;
                line.extend_from_slice(here);
                whole.take().into_iter().for_each(|data| self.add(data));
                let shown = self.without_mark(&line);
                if shown.is_empty() {
                    flow = self.end_event(None, &mut each);
                } else if let Some(value) = field(shown, b"data") {
                    self.add(value);
                } else {
                    self.other(shown);
                }
                line.clear();
                self.line = line;
            }
            if flow != Flow::More {
                break;
            }
        }
        whole.into_iter().for_each(|data| self.add(data));
        (bytes.len() - left.len(), flow)
    }

    /// The event that the end of the stream cut off.
    pub fn rest(mut self) -> Option<(Vec<u8>, bool)> {
        let line = std::mem::take(&mut self.line);
        let line = self.without_mark(&line);
        match field(line, b"data") {
            Some(value) => self.add(value),
            None => self.other(line),
        }
        self.has_data.then_some((self.data, self.is_error))
    }

    fn without_mark<'l>(&mut self, line: &'l [u8]) -> &'l [u8] {
        if std::mem::replace(&mut self.started, true) {
            return line;
        }
        line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
    }

    fn add(&mut self, value: &[u8]) {
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
    }

    fn other(&mut self, line: &[u8]) {
        if let Some(name) = field(line, b"event") {
            self.is_error = name == b"error";
        }
    }

    fn end_event(
        &mut self,
        whole: Option<&[u8]>,
        each: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Flow {
        let is_error = std::mem::take(&mut self.is_error);
        if let Some(data) = whole {
            return each(Event { data, is_error });
        }
        if !std::mem::take(&mut self.has_data) {
            return Flow::More;
        }
        let mut data = std::mem::take(&mut self.data);
        let flow = each(Event {
            data: &data,
            is_error,
        });
        // One event of megabytes isn't to be paid for until the end.
        const KEPT: usize = 16 * 1024;
        data.clear();
        data.shrink_to(KEPT);
        self.data = data;
        flow
    }
}

/// A field's value, if the line has that name: "data", "data:x" or "data: x"; but "database: x" is
/// another field.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

/// Whether an event's data is the marker that ends the stream.
pub fn is_done(data: &[u8]) -> bool {
    data.trim_ascii() == b"[DONE]"
}

/// Whether bytes are the beginning of an event stream, or `None` as long as that can't be told.
pub fn is_stream(bytes: &[u8], labelled: bool) -> Option<bool> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    if MARK.starts_with(bytes) {
        return None;
    }
    let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes).trim_ascii_start();
    let first = bytes.first()?;
    // What is JSON as a whole is no stream, whatever the label says.
    if matches!(first, b'{' | b'[') {
        return Some(false);
    }
    if labelled || *first == b':' {
        return Some(true);
    }
    let names: [&[u8]; 4] = [b"data", b"event", b"id", b"retry"];
    let mut may_be = names.into_iter().filter(|name| {
        let length = name.len().min(bytes.len());
        bytes[..length] == name[..length]
    });
    let Some(name) = may_be.next() else {
        return Some(false);
    };
    let after = bytes.get(name.len())?;
    Some(matches!(after, b':' | b'\r' | b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        let mut parser = Parser::default();
        let mut found = Vec::new();
        for piece in pieces {
            parser.push(piece, |event| {
                let name = if event.is_error { "error " } else { "" };
                found.push(format!("{name}{}", text(event.data)));
                Flow::More
            });
        }
        (found, parser.rest().map(|(data, _)| text(&data)))
    }

    /// With every feature: a mark, comments, all line ends, joined data, other fields.
    const STREAM: &str = "\u{feff}data: {\"a\":\"h\u{e9}\"}\n\n: OPENROUTER PROCESSING\n\n\
        data:one\r\ndata: two\r\n\r\nevent: x\rid: 7\rdata:  three\r\rdata\n\ndatabase: no\n\n\
        event: error\ndata: {}\n\nretry: 10\n\n: \n\ndata: [DONE]\n\n";

    fn expected() -> Vec<String> {
        let found = [
            "{\"a\":\"h\u{e9}\"}",
            "one\ntwo",
            " three",
            "",
            "error {}",
            "[DONE]",
        ];
        found.map(str::to_owned).to_vec()
    }

    #[test]
    fn a_stream_reads_the_same_however_it_is_cut() {
        let bytes = STREAM.as_bytes();
        assert_eq!(events(&[bytes]), (expected(), None));
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(events(&[head, tail]), (expected(), None), "{cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(events(&single), (expected(), None));
    }

    #[test]
    fn a_stream_reads_the_same_with_every_line_end() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = "data: a\n\ndata: b\ndata: c\n\n".replace('\n', end);
            assert_eq!(events(&[stream.as_bytes()]).0, ["a", "b\nc"], "{end:?}");
        }
    }

    #[test]
    fn an_event_that_the_end_cut_off_is_kept_apart() {
        for cut in ["data: a\n\ndata: b", "data: a\n\ndata: b\n"] {
            let found = (vec!["a".into()], Some("b".into()));
            assert_eq!(events(&[cut.as_bytes()]), found);
        }
        assert_eq!(events(&[b"data: a\n\n: comment"]), (vec!["a".into()], None));
    }

    #[test]
    fn a_stream_is_told_from_a_whole_answer_by_its_bytes() {
        for (bytes, labelled, is) in [
            ("data: {}", false, Some(true)),
            ("\u{feff}\n\nevent: error\n", false, Some(true)),
            (": comment", false, Some(true)),
            ("\n {\"choices\"", true, Some(false)),
            ("[", true, Some(false)),
            ("<html>", false, Some(false)),
            ("<html>", true, Some(true)),
            ("error: no", false, Some(false)),
            ("database: x", false, Some(false)),
            ("da", false, None),
            ("", true, None),
            ("\r\n", true, None),
        ] {
            assert_eq!(is_stream(bytes.as_bytes(), labelled), is, "{bytes:?}");
        }
    }
}
