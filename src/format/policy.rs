//! Policies: whom a reader of a log trusts, after C2SP tlog-policy (2026-07).
//!
//! ```text
//! log <vkey> [<url>]
//! witness <name> <vkey> [<url>]
//! group <name> <k>|any|all <name>...
//! quorum <name>|none
//! ```
//!
//! Read as the specification has it and no more: a policy that two programs read differently
//! protects from nothing.

use std::collections::BTreeMap;

use super::cosignature::Cosigner;
use super::note::{MAX_NAME, MAX_SIGNATURES, Verifier, is_log_name};

/// A longer policy is refused.
pub const LONGEST: u64 = 256 * 1024;

/// The most logs, and the most groups.
const MOST: usize = 64;

/// The most witnesses: a note with a line of each, and the log's own, is to be read.
const MOST_WITNESSES: usize = MAX_SIGNATURES - 1;

/// The name that stands for no quorum, and nothing else.
const NONE: &[u8] = b"none";

/// A policy.
#[derive(Debug, Clone)]
pub struct Policy {
    logs: Vec<Verifier>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Option<Member>,
}

/// A witness of a policy.
#[derive(Debug, Clone)]
pub struct Witness {
    /// What it signs with.
    pub key: Cosigner,
    /// Where it is asked, if the policy says it.
    pub url: Option<String>,
}

/// Who belongs to a group, or is the quorum: a witness or a group, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// So many of these.
#[derive(Debug, Clone)]
struct Group {
    least: usize,
    members: Vec<Member>,
}

/// A name that was defined.
struct Defined {
    member: Member,
    /// Each is a member of one group at most.
    is_used: bool,
}

/// A policy that is being read.
#[derive(Default)]
struct Reading<'t> {
    logs: Vec<Verifier>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Option<Option<Member>>,
    names: BTreeMap<&'t [u8], Defined>,
}

impl Policy {
    /// Reads a policy. An error names the line.
    pub fn parse(text: &[u8]) -> Result<Policy, String> {
        if text.len() as u64 > LONGEST {
            return Err(format!("has more than {LONGEST} bytes"));
        }
        let mut reading = Reading::default();
        let lines = text
            .strip_suffix(b"\n")
            .ok_or("must end with a line feed, as each of its lines")?;
        for (line, number) in lines.split(|byte| *byte == b'\n').zip(1..) {
            let read = reading.line(line);
            read.map_err(|wrong| format!("line {number} {wrong}"))?;
        }
        let Some(quorum) = reading.quorum else {
            return Err("has no quorum: it needs one line \"quorum <name>|none\"".to_owned());
        };
        Ok(Policy {
            logs: reading.logs,
            witnesses: reading.witnesses,
            groups: reading.groups,
            quorum,
        })
    }

    /// The keys of the logs that it's for; any, if it names none.
    pub fn logs(&self) -> &[Verifier] {
        &self.logs
    }

    /// The witnesses, in their order.
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Whether cosignatures are asked for at all.
    pub fn has_quorum(&self) -> bool {
        self.quorum.is_some()
    }

    /// When the quorum was complete, by when each witness had cosigned; `None` if it isn't. Without a
    /// quorum that is always.
    pub fn complete_at(&self, cosigned: &[Option<u64>]) -> Option<u64> {
        // A group knows only those before it.
        let mut groups: Vec<Option<u64>> = Vec::with_capacity(self.groups.len());
        let time = |member: Member, groups: &[Option<u64>]| match member {
            Member::Witness(at) => cosigned.get(at).copied().flatten(),
            Member::Group(at) => groups.get(at).copied().flatten(),
        };
        for group in &self.groups {
            let members = group.members.iter();
            let mut times: Vec<u64> = members
                .filter_map(|member| time(*member, &groups))
                .collect();
            times.sort_unstable();
            groups.push(times.get(group.least - 1).copied());
        }
        self.quorum.map_or(Some(0), |member| time(member, &groups))
    }
}

impl<'t> Reading<'t> {
    fn line(&mut self, line: &'t [u8]) -> Result<(), String> {
        if line
            .iter()
            .any(|byte| !matches!(byte, b'\t' | 0x20..=0x7e | 0x80..))
        {
            return Err("has a control character that isn't a tab".to_owned());
        }
        let mut words = line
            .split(|byte| matches!(byte, b' ' | b'\t'))
            .filter(|word| !word.is_empty());
        let Some(keyword) = words.next().filter(|word| word[0] != b'#') else {
            return Ok(());
        };
        let words: Vec<&[u8]> = words.collect();
        match (keyword, &words[..]) {
            (b"log", [key]) => self.log(key),
            (b"log", [key, _url]) => self.log(key),
            (b"witness", [name, key]) => self.witness(name, key, None),
            (b"witness", [name, key, url]) => self.witness(name, key, Some(url)),
            (b"group", [name, least, members @ ..]) => self.group(name, least, members),
            (b"quorum", [name]) => self.quorum(name),
            (b"log", _) => Err("must be \"log <vkey> [<url>]\"".to_owned()),
            (b"witness", _) => Err("must be \"witness <name> <vkey> [<url>]\"".to_owned()),
            (b"group", _) => Err("must be \"group <name> <k>|any|all <name>...\"".to_owned()),
            (b"quorum", _) => Err("must be \"quorum <name>|none\"".to_owned()),
            _ => Err(format!(
                "begins with {}; there are \"log\", \"witness\", \"group\", \"quorum\" and comments \
                 that begin with \"#\"",
                show(keyword)
            )),
        }
    }

    fn log(&mut self, key: &[u8]) -> Result<(), String> {
        let key = Verifier::parse(text(key)?)?;
        if !is_log_name(key.name()) {
            return Err(format!(
                "has a log whose name has more than {MAX_NAME} bytes or a \"#\""
            ));
        }
        if self.logs.iter().any(|known| known.bytes() == key.bytes()) {
            return Err("has the public key of another log once more".to_owned());
        }
        if self.logs.len() == MOST {
            return Err(format!("is one log too many: at most {MOST} are read"));
        }
        self.logs.push(key);
        Ok(())
    }

    fn witness(&mut self, name: &'t [u8], key: &[u8], url: Option<&[u8]>) -> Result<(), String> {
        let key = Cosigner::parse(text(key)?)?;
        let mut known = self.witnesses.iter();
        if known.any(|known| known.key.bytes() == key.bytes()) {
            return Err("has the public key of another witness once more".to_owned());
        }
        if self.witnesses.len() == MOST_WITNESSES {
            return Err(format!(
                "is one witness too many: at most {MOST_WITNESSES} are read"
            ));
        }
        self.define(name, Member::Witness(self.witnesses.len()))?;
        let url = url.map(text).transpose()?.map(str::to_owned);
        self.witnesses.push(Witness { key, url });
        Ok(())
    }

    fn group(&mut self, name: &'t [u8], least: &[u8], members: &[&'t [u8]]) -> Result<(), String> {
        if members.is_empty() {
            return Err("has a group of nobody".to_owned());
        }
        let least = match least {
            b"any" => 1,
            b"all" => members.len(),
            number => {
                let number = text(number)?;
                let least: Option<usize> = number.parse().ok();
                let canonical = least.filter(|least| least.to_string() == number);
                let within = canonical.filter(|least| (1..=members.len()).contains(least));
                within.ok_or_else(|| {
                    let most = members.len();
                    format!("must ask for \"any\", \"all\" or 1 to {most} of its members")
                })?
            }
        };
        let mut found = Vec::with_capacity(members.len());
        for member in members {
            let Some(defined) = self.names.get_mut(member) else {
                return Err(format!(
                    "names {}, which no line before it defines",
                    show(member)
                ));
            };
            if std::mem::replace(&mut defined.is_used, true) {
                return Err(format!(
                    "names {}, which is a member of a group already",
                    show(member)
                ));
            }
            found.push(defined.member);
        }
        if self.groups.len() == MOST {
            return Err(format!("is one group too many: at most {MOST} are read"));
        }
        self.define(name, Member::Group(self.groups.len()))?;
        self.groups.push(Group {
            least,
            members: found,
        });
        Ok(())
    }

    fn quorum(&mut self, name: &[u8]) -> Result<(), String> {
        let quorum = match self.names.get(name) {
            Some(defined) => Some(defined.member),
            None if name == NONE => None,
            None => {
                return Err(format!(
                    "names {}, which no line before it defines",
                    show(name)
                ));
            }
        };
        match self.quorum.replace(quorum) {
            None => Ok(()),
            Some(_) => Err("is a second quorum; there must be one".to_owned()),
        }
    }

    fn define(&mut self, name: &'t [u8], member: Member) -> Result<(), String> {
        if name == NONE {
            return Err("uses the name \"none\", which stands for no quorum".to_owned());
        }
        let is_used = false;
        match self.names.insert(name, Defined { member, is_used }) {
            None => Ok(()),
            Some(_) => Err(format!("defines {} a second time", show(name))),
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes)
        .map_err(|_| "has a key, a number or a URL that isn't UTF-8".to_owned())
}

/// A word for a message.
fn show(word: &[u8]) -> String {
    format!(
        "{:?}",
        String::from_utf8_lossy(&word[..word.len().min(MAX_NAME)])
    )
}

#[cfg(test)]
mod tests {
    use super::super::cosignature::tests::Witness;
    use super::super::note::Signer;
    use super::*;

    fn key(number: u8) -> String {
        Witness::new(&format!("witness.example/w{number}"), number).vkey()
    }

    fn log(number: u8) -> String {
        let signer = Signer::from_seed("audit.example/llm", &[number; 32]).unwrap();
        signer.verifier().to_string()
    }

    /// The example of the specification, C2SP tlog-policy, section "Example policy".
    fn example() -> String {
        let witnesses: String = ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
            .iter()
            .zip(1..)
            .map(|(name, number)| format!("witness {name} {}\n", key(number)))
            .collect();
        format!(
            "# whom we trust\nlog {} https://log.example/\n\n{witnesses}\
             group X-witnesses 2 X1 X2 X3\n\tgroup  Y-witnesses any Y1\tY2 Y3 \n\
             group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n",
            log(1)
        )
    }

    #[test]
    fn the_example_of_the_specification_has_its_quorum() {
        let policy = Policy::parse(example().as_bytes()).unwrap();
        assert_eq!(policy.logs().len(), 1);
        assert_eq!(policy.witnesses().len(), 6);
        // Every set of witnesses.
        for set in 0..64u64 {
            let times: Vec<_> = (0..6)
                .map(|at| (set >> at & 1 == 1).then_some(at + 1))
                .collect();
            let x: Vec<u64> = times[..3].iter().flatten().copied().collect();
            let y = times[3..].iter().flatten().next();
            let due = x.get(1).zip(y).map(|(x, y)| *x.max(y));
            assert_eq!(policy.complete_at(&times), due, "{set:06b}");
        }
    }

    #[test]
    fn no_quorum_is_always_complete_and_one_witness_can_be_all_of_it() {
        let none = Policy::parse(b"quorum none\n").unwrap();
        assert!(!none.has_quorum());
        assert_eq!(none.complete_at(&[]), Some(0));
        let one = format!("witness w {} https://w.example\nquorum w\n", key(1));
        let one = Policy::parse(one.as_bytes()).unwrap();
        assert_eq!(one.witnesses()[0].url.as_deref(), Some("https://w.example"));
        assert_eq!(one.complete_at(&[None]), None);
        assert_eq!(one.complete_at(&[Some(7)]), Some(7));
    }

    #[test]
    fn names_are_bytes_and_a_comment_begins_a_line_only() {
        let text = [
            &b"witness K\xff "[..],
            key(1).as_bytes(),
            b"\n # quorum none\nquorum K\xff\n",
        ]
        .concat();
        assert!(Policy::parse(&text).unwrap().has_quorum());
        let text = format!("witness #w {}\nquorum #w\n", key(1));
        assert!(Policy::parse(text.as_bytes()).is_ok());
        assert!(Policy::parse(b"quorum none # really\n").is_err());
    }

    #[test]
    fn what_the_specification_doesn_t_allow_is_refused_by_its_line() {
        let (w1, w2) = (key(1), key(2));
        let renamed = Witness::new("another", 1).vkey();
        let with = |lines: &str| format!("witness a {w1}\nwitness b {w2}\n{lines}\n");
        for (text, part) in [
            (String::new(), "line feed"),
            ("quorum none".into(), "line feed"),
            ("\n".into(), "no quorum"),
            ("quorum none\nquorum none\n".into(), "line 2 is a second"),
            ("quorum\n".into(), "line 1 must be"),
            ("quorum none none\n".into(), "line 1 must be"),
            ("quorum a\n".into(), "line 1 names \"a\""),
            ("Quorum none\n".into(), "begins with \"Quorum\""),
            ("quorum none\r\n".into(), "control character"),
            ("quorum\u{b}none\n".into(), "control character"),
            (with("quorum c"), "line 3 names"),
            (with("group g any\nquorum g"), "group of nobody"),
            (with("group g\nquorum g"), "line 3 must be"),
            (with("group g 0 a b\nquorum g"), "1 to 2"),
            (with("group g 3 a b\nquorum g"), "1 to 2"),
            (with("group g 01 a b\nquorum g"), "1 to 2"),
            (with("group g +1 a b\nquorum g"), "1 to 2"),
            (with("group g Any a b\nquorum g"), "1 to 2"),
            (with("group g 99999999999999999999 a b\nquorum g"), "1 to 2"),
            (with("group g any a a\nquorum g"), "already"),
            (
                with("group g any a\ngroup h any a b\nquorum h"),
                "line 4 names \"a\"",
            ),
            (with("group g any g\nquorum g"), "line 3 names \"g\""),
            (with("group g any none\nquorum g"), "line 3 names \"none\""),
            (with("group a any b\nquorum a"), "a second time"),
            (
                with("group none any b\nquorum none"),
                "stands for no quorum",
            ),
            (with("quorum g\ngroup g any a"), "line 3 names \"g\""),
            (with(&format!("witness c {w1}\nquorum a")), "once more"),
            (with(&format!("witness c {renamed}\nquorum a")), "once more"),
            (
                with(&format!("witness a {}\nquorum a", key(3))),
                "a second time",
            ),
            (
                with(&format!("witness none {}\nquorum a", key(3))),
                "no quorum",
            ),
            (
                with(&format!("witness c {} u v\nquorum a", key(3))),
                "line 3 must be",
            ),
            (with("witness c\nquorum a"), "line 3 must be"),
            (with("witness c x+y+z\nquorum a"), "line 3 the public key"),
            (with(&format!("witness c {}\nquorum a", log(1))), "type 4"),
            (format!("log {w1}\nquorum none\n"), "type 1"),
            (
                format!("log {0}\nlog {0}\nquorum none\n", log(1)),
                "line 2 has the public",
            ),
            (
                format!("log {} u v\nquorum none\n", log(1)),
                "line 1 must be",
            ),
            ("log\nquorum none\n".into(), "line 1 must be"),
        ] {
            let refused = Policy::parse(text.as_bytes()).unwrap_err();
            assert!(refused.contains(part), "{text:?}: {refused}");
        }
        let long = "#".repeat(LONGEST as usize) + "\n";
        assert!(
            Policy::parse(long.as_bytes())
                .unwrap_err()
                .contains("more than")
        );
    }
}
