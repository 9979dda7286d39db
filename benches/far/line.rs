//! The lines of a fleet, each made anew when it's asked for.

use serde_json::json;

/// So many hosts with so many lines each.
pub struct Fleet {
    pub hosts: u64,
    pub lines: u64,
    /// A line, and where in it stands what isn't the same in each: the digits of the id, of the timestamp and of the
    /// host's name.
    template: Vec<u8>,
    id: usize,
    time: usize,
    host: usize,
    /// What the number of a line is multiplied by to have its place in the order in which they come.
    step: u64,
}

const ID: &str = "00000000-0000-4000-8000-000000000000";
const TIME: &str = "2026-11-23T00:00:00.000000Z";
const NAME: &str = "host-0000";

/// An entry as the library writes it, without its line feed.
fn template() -> Vec<u8> {
    let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let rest = json!({
        "event_type": "chat_completion", "user_id": "user-1049", "model": "openai/gpt-4-turbo", "prompt_hash": hash,
        "response_hash": hash, "prompt_tokens": 512, "completion_tokens": 256, "latency_ms": 1834.25, "status": "success",
        "error_type": null, "metadata": {"ticket": "T-10493", "tenant": "north", "purpose": "summary of a contract"},
    });
    let details = json!({
        "schema": 2, "host": NAME, "pid": 4711, "started_at": TIME, "http_status": 200, "request_hash": hash,
        "response_body_hash": hash, "served_model": "openai/gpt-4-turbo", "finish_reason": "stop", "cost": 0.01234,
        "prompt_form": "messages", "outcome": "answered", "usage_reported": true, "stream": false,
    });
    let rest = rest.to_string();
    let text = format!(
        r#"{{"id":"{ID}","timestamp":"{TIME}",{},"details":{details}}}"#,
        &rest[1..rest.len() - 1]
    );
    text.into_bytes()
}

impl Fleet {
    pub fn new(hosts: u64, lines: u64) -> Fleet {
        let template = template();
        let text = String::from_utf8_lossy(&template).into_owned();
        let at = |what: &str| text.find(what).expect("the template has it");
        let count = hosts * lines;
        // About the golden section of them, so that neighbours come from far apart, and each comes once.
        let near = (count as f64 * 0.618) as u64;
        let step = (near..)
            .find(|step| gcd(*step, count) == 1)
            .expect("a prime is near");
        Fleet {
            hosts,
            lines,
            id: at(ID),
            time: at(TIME),
            host: at(NAME),
            template,
            step,
        }
    }

    pub fn count(&self) -> u64 {
        self.hosts * self.lines
    }

    /// Of a line, with its line feed.
    pub fn length(&self) -> usize {
        self.template.len() + 1
    }

    pub fn name(&self, host: u64) -> String {
        format!("host-{host:04}")
    }

    /// Which line comes as a number of the shuffled ones.
    pub fn shuffled(&self, at: u64) -> u64 {
        (u128::from(at) * u128::from(self.step) % u128::from(self.count())) as u64
    }

    /// Appends a line by its number: those of a host stand one behind the other.
    pub fn write(&self, number: u64, to: &mut Vec<u8>) {
        let (host, line) = (number / self.lines, number % self.lines);
        let start = to.len();
        to.extend_from_slice(&self.template);
        let text = &mut to[start..];
        digits(host, &mut text[self.id..self.id + 8]);
        digits(line, &mut text[self.id + 24..self.id + 36]);
        digits(host, &mut text[self.host + 5..self.host + 9]);
        let micros = line * (86_400_000_000 / self.lines);
        let seconds = micros / 1_000_000;
        digits(seconds / 3600, &mut text[self.time + 11..self.time + 13]);
        digits(seconds / 60 % 60, &mut text[self.time + 14..self.time + 16]);
        digits(seconds % 60, &mut text[self.time + 17..self.time + 19]);
        digits(
            micros % 1_000_000,
            &mut text[self.time + 20..self.time + 26],
        );
        to.push(b'\n');
    }
}

/// A number in decimal, as far as there's room.
fn digits(mut number: u64, into: &mut [u8]) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
