//! The page of a bundle: what is in it, what that proves and what it doesn't.

use std::fmt::Write as _;

use audit_logger::tool::checkpoint::format_hash;

use super::About;
use crate::output::plain;

/// A text as HTML has it, with nothing that would change the order of what is shown.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A bundle of an audit log</title>
<style>
body { font: 16px/1.5 sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em; }
th { text-align: left; vertical-align: top; padding-right: 1em; }
td, code { overflow-wrap: anywhere; }
</style>
</head>
<body>
"#;

const FILES: &str = r#"<h2>What is in it</h2>
<table>
<tr><th>entries.jsonl</th><td>the lines, to the byte, in the order in which they were sealed</td></tr>
<tr><th>proof.txt</th><td>what leads from them to the root of the log's Merkle tree</td></tr>
<tr><th>checkpoint</th><td>that root, signed by the log, and by witnesses if it has any</td></tr>
<tr><th>vkey</th><td>the log's public key</td></tr>
<tr><th>timestamps</th><td>what authorities said of when the log existed, if there are any</td></tr>
<tr><th>policy</th><td>which witnesses must have signed, if it's there</td></tr>
<tr><th>manifest.json</th><td>every file's digest, and what was left out; its own is in manifest.sha256</td></tr>
<tr><th>verify.py</th><td>checks all of this</td></tr>
</table>
<h2>Checking it</h2>
<p>With Python 3.8 or later, and nothing else:</p>
<pre>python3 verify.py BUNDLE.zip --vkey KEY</pre>
<p>KEY is the log's public key, as you had it from elsewhere: whoever makes a bundle could make a key as well. For the
same reason this page is no proof, and a verifier that you have from elsewhere is better than the one in here.</p>
"#;

/// The page.
pub fn page(about: &About) -> String {
    let mut page = HEAD.to_owned();
    let checkpoint = &about.slice.checkpoint;
    let users = match about.users {
        [] => "all".to_owned(),
        users => users.join(", "),
    };
    let _ = writeln!(
        page,
        "<h1>Lines of the audit log {}</h1>\n<table>",
        escaped(about.slice.verifier.name())
    );
    for (what, value) in [
        (
            "days (UTC)",
            match about.from == about.to {
                true => about.from.clone(),
                false => format!("{} to {}", about.from, about.to),
            },
        ),
        ("users", users),
        ("lines", about.counts.lines.to_string()),
        ("entries of the tree", checkpoint.size.to_string()),
        ("root of the tree", format_hash(&checkpoint.root)),
        ("public key", about.slice.verifier.to_string()),
        ("cosignatures", about.cosigned.to_string()),
        ("time stamps", about.stamps.len().to_string()),
    ] {
        let _ = writeln!(page, "<tr><th>{what}</th><td>{}</td></tr>", escaped(&value));
    }
    for stamp in about.stamps {
        let (when, size) = (&stamp.when, stamp.checkpoint.size);
        let _ = writeln!(
            page,
            "<tr><th></th><td>{when}, over the first {size} entries: by whom, openssl ts says</td></tr>"
        );
    }
    page.push_str("</table>\n");
    page.push_str(FILES);
    page.push_str("<h2>What is proved</h2>\n<ul>\n");
    let mut points = vec![
        "Each line was in the log, to the byte, when the checkpoint was signed: none was changed or added since.",
    ];
    points.push(match about.users {
        [] => {
            "No line that was sealed of these days is missing, but for those under \"left out\": the seals, which \
             count their lines, are shown without a gap, between seals of other days or the ends of the log."
        }
        _ => "Of other users the proof has hashes of the tree alone.",
    });
    if about.has_policy {
        points.push("A quorum of the policy's witnesses saw the log as it is here, at the times that they signed.");
    }
    list(&mut page, &points);
    page.push_str("<h2>What isn't</h2>\n<ul>\n");
    let mut points = vec![
        "That what the lines say is true: they are what the service wrote.",
        "That they weren't signed anew by whoever has the log's private key, unless witnesses whom you trust have \
         signed as well.",
    ];
    points.push(match about.users {
        [] => "That no line of these days was sealed at another time, before or behind the seals that are shown.",
        _ => "That these are all lines of these users: what isn't shown could be theirs.",
    });
    list(&mut page, &points);
    let counts = &about.counts;
    page.push_str("<h2>Left out</h2>\n<ul>\n");
    let mut left_out = Vec::new();
    for (count, what) in [
        (
            counts.removed,
            "sealed lines whose file retention has removed",
        ),
        (
            counts.too_long,
            "sealed lines that are longer than any entry",
        ),
        (
            counts.unsealed_bytes,
            "bytes at the ends of files that weren't sealed yet",
        ),
    ] {
        if count > 0 {
            left_out.push(format!("{count} {what}"));
        }
    }
    if left_out.is_empty() {
        left_out.push("nothing that is sealed of what was asked for".to_owned());
    }
    let left_out: Vec<&str> = left_out.iter().map(String::as_str).collect();
    list(&mut page, &left_out);
    page.push_str("</body>\n</html>\n");
    page
}

fn list(page: &mut String, points: &[&str]) {
    for point in points {
        let _ = writeln!(page, "<li>{}</li>", escaped(point));
    }
    page.push_str("</ul>\n");
}
