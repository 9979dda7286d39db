//! `--where`: which entries are meant.

use std::cmp::Ordering;
use std::str::FromStr;

use clap::Args;

use crate::entries::Entry;

/// How an entry's value and a given one must compare.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The longer ones first, as they begin with others.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("!=", Comparison::Unequal),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("=", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// A member that is a text, and one that is a number. An entry may lack either.
type Text = for<'e> fn(&'e Entry<'_>) -> Option<&'e str>;
type Number = fn(&Entry<'_>) -> Option<f64>;

const TEXTS: [(&str, Text); 7] = [
    ("user_id", |entry| Some(&entry.user_id)),
    ("model", |entry| Some(&entry.model)),
    ("status", |entry| Some(&entry.status)),
    ("error_type", |entry| entry.error_type.as_deref()),
    ("outcome", |entry| {
        let unknown = entry.is_unknown().then_some("unknown");
        entry.outcome.as_deref().or(unknown)
    }),
    ("event_type", |entry| Some(&entry.event_type)),
    ("timestamp", |entry| Some(&entry.timestamp)),
];

const NUMBERS: [(&str, Number); 4] = [
    ("latency_ms", |entry| entry.latency_ms),
    ("prompt_tokens", |entry| {
        entry.prompt_tokens.map(|count| count as f64)
    }),
    ("completion_tokens", |entry| {
        entry.completion_tokens.map(|count| count as f64)
    }),
    ("cost", |entry| entry.cost),
];

#[derive(Clone)]
enum Member {
    Text(Text, String),
    Number(Number, f64),
}

/// The conditions of a command.
#[derive(Args)]
pub struct Where {
    /// Only entries of which this is true; may be repeated, and all must be
    ///
    /// A member (user_id, model, status, error_type, outcome, event_type, timestamp; latency_ms, prompt_tokens,
    /// completion_tokens, cost), one of = != < <= > >=, and a value; texts are compared byte by byte. An entry
    /// without the member is unequal to every value. An outcome is answered, not_sent or unknown: of an unknown one nobody
    /// knows whether the call was processed and billed, whatever its error_type.
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<Condition>,
}

impl Where {
    /// Whether an entry meets all of them.
    pub fn holds(&self, entry: &Entry) -> bool {
        self.conditions.iter().all(|is| is.holds(entry))
    }
}

/// One condition, such as `model=openai/gpt-4o` or `latency_ms>1000`.
#[derive(Clone)]
pub struct Condition {
    member: Member,
    comparison: Comparison,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(given: &str) -> Result<Condition, String> {
        let end = given.find(['!', '<', '=', '>']).unwrap_or(given.len());
        let (name, rest) = given.split_at(end);
        let found = COMPARISONS
            .iter()
            .find_map(|(sign, comparison)| Some((rest.strip_prefix(sign)?, *comparison)));
        let (value, comparison) = found.ok_or(
            "write it as MEMBER, one of = != < <= > >=, and the value, such as \"latency_ms>1000\"",
        )?;
        let name = name.trim_end();
        let value = value.trim_start();
        if let Some((_, text)) = TEXTS.iter().find(|(known, _)| *known == name) {
            let member = Member::Text(*text, value.to_owned());
            return Ok(Condition { member, comparison });
        }
        let Some((_, number)) = NUMBERS.iter().find(|(known, _)| *known == name) else {
            let texts = TEXTS.iter().map(|(name, _)| *name);
            let all: Vec<&str> = texts.chain(NUMBERS.iter().map(|(name, _)| *name)).collect();
            return Err(format!(
                "there is no {name:?}; there are {}",
                all.join(", ")
            ));
        };
        match value.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Condition {
                member: Member::Number(*number, value),
                comparison,
            }),
            _ => Err(format!("{name} is a number, and {value:?} is none")),
        }
    }
}

impl Condition {
    /// Whether an entry meets it. One that lacks the member is unequal to everything, and nothing else.
    fn holds(&self, entry: &Entry) -> bool {
        let ordering = match &self.member {
            Member::Text(text, value) => text(entry).map(|text| text.cmp(value)),
            Member::Number(number, value) => {
                number(entry).and_then(|number| number.partial_cmp(value))
            }
        };
        match self.comparison {
            Comparison::Equal => ordering == Some(Ordering::Equal),
            Comparison::Unequal => ordering != Some(Ordering::Equal),
            Comparison::Less => ordering.is_some_and(Ordering::is_lt),
            Comparison::LessOrEqual => ordering.is_some_and(Ordering::is_le),
            Comparison::Greater => ordering.is_some_and(Ordering::is_gt),
            Comparison::GreaterOrEqual => ordering.is_some_and(Ordering::is_ge),
        }
    }
}
