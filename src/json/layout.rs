//! Objects whose layouts are few, as those in the lines of a log: from one to the next the values differ, and seldom
//! anything else.
//!
//! What stands between two values, and was read at that place before, is only compared: a text that consists of such
//! pieces, with a whole value at each place where there was one, has the grammar of those that were read. The others
//! are read, and their layout is remembered.

use super::pull::Pull;

/// So many places are remembered, of so many bytes: those of a log are a few hundred. Behind them it begins anew.
const MOST_PLACES: usize = 1 << 12;
const MOST_BYTES: usize = 1 << 20;

/// Where more came next, the others aren't remembered: each is tried.
const MOST_STEPS: usize = 32;

/// Reads the values of `N` members, each at a path of keys.
pub struct Layouts<const N: usize> {
    wanted: [&'static [&'static str]; N],
    /// What came next at each place; the first is the beginning.
    places: Vec<Vec<Step>>,
    bytes: usize,
}

/// From one place to the next: what stands between, and a value.
struct Step {
    between: Box<str>,
    value: Value,
    to: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Wanted(usize),
    /// Not itself; but if it were an object, what is in it would be.
    Above,
    Unwanted,
    /// None: the text ends.
    End,
}

/// The values, as they are written; of a member that isn't there, none.
type Values<'t, const N: usize> = [Option<&'t str>; N];

impl<const N: usize> Layouts<N> {
    /// Of the members at these paths, none of which leads through another.
    pub fn new(wanted: [&'static [&'static str]; N]) -> Layouts<N> {
        Layouts {
            wanted,
            places: vec![Vec::new()],
            bytes: 0,
        }
    }

    /// Reads a text that is one object. `None` if it isn't, or if a member that is wanted, or what it is in, comes twice.
    pub fn read<'t>(&mut self, text: &'t [u8]) -> Option<Values<'t, N>> {
        let text = std::str::from_utf8(text).ok()?;
        self.follow(text).or_else(|| self.learn(text))
    }

    /// Reads a text of a layout that is remembered.
    fn follow<'t>(&self, text: &'t str) -> Option<Values<'t, N>> {
        let mut values = [None; N];
        let mut pull = Pull::new(text);
        let mut place = 0;
        loop {
            let from = pull.at;
            let mut fits = |step: &Step| {
                pull.at = from;
                pull.literal(&step.between)?;
                match step.value {
                    Value::End => return (pull.at == text.len()).then_some(()),
                    Value::Above if pull.is_object() => return None,
                    Value::Above | Value::Unwanted => pull.skip()?,
                    Value::Wanted(number) => values[number] = Some(pull.written()?),
                }
                Some(())
            };
            let step = self.places[place]
                .iter()
                .find(|step| fits(step).is_some())?;
            if step.value == Value::End {
                return Some(values);
            }
            place = step.to;
        }
    }

    /// Reads a text, and remembers its layout.
    fn learn<'t>(&mut self, text: &'t str) -> Option<Values<'t, N>> {
        let mut walk = Walk {
            wanted: &self.wanted,
            text,
            path: Vec::new(),
            met: Vec::new(),
            values: [None; N],
            steps: Vec::new(),
            end: 0,
        };
        Pull::new(text).whole(|key, pull| walk.member(key, pull))?;
        walk.steps.push((&text[walk.end..], Value::End));
        let (values, steps) = (walk.values, walk.steps);
        self.remember(&steps);
        Some(values)
    }

    fn remember(&mut self, steps: &[(&str, Value)]) {
        let bytes: usize = steps.iter().map(|(between, _)| between.len()).sum();
        // One that has no room for itself takes none from the others.
        if steps.len() > MOST_PLACES || bytes > MOST_BYTES {
            return;
        }
        if self.places.len() + steps.len() > MOST_PLACES || self.bytes + bytes > MOST_BYTES {
            *self = Layouts::new(self.wanted);
        }
        let mut place = 0;
        for (between, value) in steps {
            let known = &self.places[place];
            let same = known
                .iter()
                .find(|step| *step.between == **between && step.value == *value);
            if let Some(step) = same {
                place = step.to;
                continue;
            }
            if known.len() == MOST_STEPS {
                return;
            }
            let to = self.places.len();
            self.places.push(Vec::new());
            self.bytes += between.len();
            self.places[place].push(Step {
                between: (*between).into(),
                value: *value,
                to,
            });
            place = to;
        }
    }
}

/// The reading of a text whose layout isn't known.
struct Walk<'w, 't, const N: usize> {
    wanted: &'w [&'static [&'static str]; N],
    text: &'t str,
    /// The keys of the member that is read.
    path: Vec<String>,
    /// The paths of those that were met and may come once.
    met: Vec<Vec<String>>,
    values: Values<'t, N>,
    steps: Vec<(&'t str, Value)>,
    /// Where the last value ended.
    end: usize,
}

impl<'t, const N: usize> Walk<'_, 't, N> {
    fn member(&mut self, key: &str, pull: &mut Pull<'t>) -> Option<()> {
        self.path.push(key.to_owned());
        let value = self.value();
        if value != Value::Unwanted {
            if self.met.contains(&self.path) {
                return None;
            }
            self.met.push(self.path.clone());
        }
        if value == Value::Above && pull.is_object() {
            pull.object(|key, pull| self.member(key, pull))?;
        } else {
            let start = pull.at;
            pull.skip()?;
            self.steps.push((&self.text[self.end..start], value));
            self.end = pull.at;
            if let Value::Wanted(number) = value {
                self.values[number] = Some(&self.text[start..self.end]);
            }
        }
        self.path.pop();
        Some(())
    }

    /// What the value at the path is.
    fn value(&self) -> Value {
        let mut value = Value::Unwanted;
        for (number, wanted) in self.wanted.iter().enumerate() {
            if wanted.len() >= self.path.len()
                && self
                    .path
                    .iter()
                    .zip(*wanted)
                    .all(|(key, wanted)| key == wanted)
            {
                match wanted.len() == self.path.len() {
                    true => return Value::Wanted(number),
                    false => value = Value::Above,
                }
            }
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;
    use serde_json::Value as Json;

    use super::*;
    use crate::fuzzing::fuzz;

    const WANTED: [&[&str]; 4] = [
        &["id"],
        &["tokens"],
        &["details", "cost"],
        &["details", "of", "it"],
    ];

    const TEXTS: [&str; 6] = [
        r#"{"id":"a","tokens":1,"metadata":{"id":"b","details":{"cost":2}},"details":{"schema":2,"cost":0.5,"of":{"it":[1]}}}"#,
        r#"{"id":"c","tokens":null,"metadata":null,"details":{"schema":2,"cost":1.5,"of":{}}}"#,
        r#"{"id":"d","tokens":2,"metadata":{},"details":null}"#,
        r#"{"details": {"cost": 3}, "id": "e"}"#,
        r#"{"\u0069d":"f","details":{"of":1,"more":{"cost":4}}}"#,
        "{}",
    ];

    /// What serde_json, a reader by others, finds.
    fn theirs(text: &[u8]) -> Option<[Option<Json>; 4]> {
        let all: Json = serde_json::from_slice(text).ok().filter(Json::is_object)?;
        Some(WANTED.map(|path| {
            let mut value = &all;
            for key in path {
                value = value.as_object()?.get(*key)?;
            }
            Some(value.clone())
        }))
    }

    fn ours(layouts: &mut Layouts<4>, text: &[u8]) -> Option<[Option<Json>; 4]> {
        let values = layouts.read(text)?;
        let json = |value: &str| serde_json::from_str(value).expect("a whole value");
        Some(values.map(|value| value.map(json)))
    }

    /// A text is read as by others, but for one with members that come twice; whatever was read before.
    fn agrees(layouts: &mut Layouts<4>, text: &[u8]) {
        let shown = String::from_utf8_lossy(text);
        let passed = serde_json::from_slice::<IgnoredAny>(text).is_ok();
        if passed && serde_json::from_slice::<Json>(text).is_err() {
            // Halves of characters, and numbers that no double holds: others differ, by whether they look into a value.
            return;
        }
        let fresh = ours(&mut Layouts::new(WANTED), text);
        assert_eq!(ours(layouts, text), fresh, "{shown}");
        if let Some(values) = fresh {
            assert_eq!(Some(values), theirs(text), "{shown}");
        }
    }

    #[test]
    fn what_was_read_before_changes_nothing_but_the_speed() {
        let mut layouts = Layouts::new(WANTED);
        for _ in 0..2 {
            for text in TEXTS {
                assert!(layouts.read(text.as_bytes()).is_some(), "{text}");
                agrees(&mut layouts, text.as_bytes());
            }
        }
        let places = layouts.places.len();
        for text in TEXTS {
            for at in 0..text.len() {
                agrees(&mut layouts, &text.as_bytes()[..at]);
                for byte in 0..=255 {
                    let mut changed = text.as_bytes().to_vec();
                    changed[at] = byte;
                    agrees(&mut layouts, &changed);
                }
            }
        }
        assert!(layouts.places.len() > places);
    }

    #[test]
    fn texts_of_any_kind_are_read_the_same_whatever_was_read_before() {
        let pieces: [&[u8]; 8] = [
            b"\"id\":1,",
            b"\"details\":{",
            b"\"cost\":",
            b"{}",
            b"},",
            b" ",
            b"\\",
            b"[1,",
        ];
        let layouts = std::cell::RefCell::new(Layouts::new(WANTED));
        fuzz(&TEXTS, &pieces, |_, text| {
            agrees(&mut layouts.borrow_mut(), text)
        });
    }

    #[test]
    fn a_layout_that_was_read_before_is_only_compared() {
        let mut layouts = Layouts::new(WANTED);
        layouts.read(TEXTS[0].as_bytes());
        let other = TEXTS[0]
            .replace("0.5", "7e-3")
            .replace("\"a\"", r#""é\n""#)
            .replace("null", "true");
        let values = layouts.follow(&other).expect("the same layout");
        assert_eq!(
            values,
            [Some(r#""é\n""#), Some("1"), Some("7e-3"), Some("[1]")]
        );
        assert!(layouts.follow(TEXTS[1]).is_none());
    }

    #[test]
    fn a_member_that_is_wanted_comes_once() {
        let mut layouts = Layouts::new(WANTED);
        for twice in [
            r#"{"id":1,"id":1}"#,
            r#"{"id":1,"\u0069d":1}"#,
            r#"{"details":{},"details":{"cost":1}}"#,
            r#"{"details":{"cost":1,"cost":1}}"#,
            r#"{"details":null,"details":{}}"#,
        ] {
            assert!(layouts.read(twice.as_bytes()).is_none(), "{twice}");
        }
        let others = br#"{"x":1,"x":{"id":1},"details":{"id":1,"id":2}}"#;
        assert_eq!(layouts.read(others), Some([None; 4]));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut layouts = Layouts::new(WANTED);
        for number in 0..20_000 {
            let filler = "x".repeat(number % 300);
            // New at the beginning, in the middle, and at the end.
            for text in [
                format!(r#"{{"k{number}{filler}":1,"id":2}}"#),
                format!(r#"{{"a":1,"details":{{"k{number}":1}},"id":2}}"#),
                format!(r#"{{"id":2,"details":[],"tokens":3,"k{number}":1}}"#),
            ] {
                let values = layouts.read(text.as_bytes()).expect("an object");
                assert_eq!(values[0], Some("2"));
            }
            assert!(layouts.places.len() <= MOST_PLACES && layouts.bytes <= MOST_BYTES);
            assert!(layouts.places.iter().all(|steps| steps.len() <= MOST_STEPS));
        }
        let before = layouts.places.len();
        let long = format!(r#"{{"{}":1,"id":2}}"#, "x".repeat(2 * MOST_BYTES));
        let many = format!(r#"{{"id":2{}}}"#, r#","a":1"#.repeat(2 * MOST_PLACES));
        for text in [long, many] {
            let values = layouts.read(text.as_bytes()).expect("an object");
            assert_eq!(values[0], Some("2"));
            assert_eq!(layouts.places.len(), before, "others are still remembered");
        }
    }
}
