//! docs/reading.md: every recipe counts right, on a log with all that readers stumble over.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::Command;

use serde_json::{Value, json};

use super::support::calls::{Logger, record, text};
use super::support::server::{Server, completion, response};
use super::support::{Scratch, available, python_with, root, run};
use super::{blocks, document, shell, with_the_tool};

const PAGE: &str = "docs/reading.md";

/// The hash of the text that the page looks for.
const SKY: &str = "09ea26793343ba6c850b0e7b499ff5d4fca39de5381cdec99a6375a7b4efbc64";

/// What every recipe is to say of the log: how many calls came to what, of how many users, and what they
/// cost. There would be 22 users if some of their ids were taken for numbers.
const SAID: [&str; 6] = ["25005", "2.5", "RateLimitError", "217", "54.25", "43"];

/// Numbers that only `metadata_numbers` "any" takes.
const ODD: [&str; 3] = ["18446744073709551616", "1e400", "1e-400"];

/// The 43 users.
fn user(number: u32) -> String {
    match number % 43 {
        padded @ 0..20 => format!("{padded:03}"),
        plain @ 20..40 => (plain - 20).to_string(),
        40 => "1e5".to_owned(),
        41 => "100000".to_owned(),
        _ => "user-42".to_owned(),
    }
}

/// An entry's line. The first 25,000 have no error, no metadata, and few details; the first costs are whole numbers.
fn line(number: u32, metadata: &str) -> String {
    let is_late = number >= 25_000;
    let (day, error, cost) = match number {
        0..25 => (22, None, json!(0)),
        25..25_000 => (22, None, json!(0.0)),
        25_000..25_005 => (23, None, json!(0.5)),
        _ => (23, Some("RateLimitError"), json!(0.25)),
    };
    let late = json!({
        "schema": 2, "host": "host", "pid": 7, "attempts": [{"http_status": 429, "wait_ms": 500}, {"http_status": 200}],
        "provider": "OpenAI", "cost": cost, "cached_tokens": 3, "usage_reported": true,
        "a_field_of_later_versions": {"x": [1]},
    });
    let mut entry = json!({
        "id": format!("00000000-0000-4000-8000-{number:012}"),
        "timestamp": format!("2026-11-{day}T10:00:00.{number:06}Z"),
        "event_type": "chat_completion",
        "user_id": user(number),
        "model": "some/model",
        "prompt_hash": if number == 25_100 { SKY.to_owned() } else { "0".repeat(64) },
        "response_hash": "0".repeat(64),
        "prompt_tokens": if number < 25_001 { Some(10) } else { None },
        "completion_tokens": 20,
        "latency_ms": 100.5,
        "status": if error.is_some() { "error" } else { "success" },
        "error_type": error,
        "metadata": "METADATA",
        "details": if is_late { late } else { json!({"schema": 2, "cost": cost}) },
    });
    if number == 100 {
        entry.as_object_mut().expect("it's one").remove("details");
    }
    format!("{entry}\n").replace("\"METADATA\"", metadata)
}

/// A log with a compressed day that is longer than readers look ahead, lines of spaces, an entry that stands
/// twice, one that is longer than most blocks, and metadata of several types.
fn log(numbers: &[&str]) -> Scratch {
    let scratch = Scratch::new();
    let log = scratch.join("audit_logs");
    fs::create_dir(&log).expect("it can be made");
    let file = fs::File::create(log.join("audit_2026-11-22.jsonl.gz")).expect("it can be made");
    let mut file = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    let first = (0..25_000).map(|number| line(number, "null"));
    file.write_all(first.collect::<String>().as_bytes())
        .expect("there's room");
    file.finish().expect("there's room");

    let mut metadata = vec![
        "null".to_owned(),
        r#"{"a":1}"#.to_owned(),
        r#"{"a":"x","team":"search"}"#.to_owned(),
        r#"{"ID":1,"id":2}"#.to_owned(),
        format!("{{\"long\":\"{}\"}}", "x".repeat(20_000)),
        r#"{"n":[18446744073709551615,-9223372036854775808,1e308,1e-307]}"#.to_owned(),
    ];
    metadata.extend(numbers.iter().map(|number| format!("{{\"n\":{number}}}")));
    let of = |number: u32| line(number, &metadata[number as usize % metadata.len()]);
    let blank = format!("{}\n", " ".repeat(300));
    let second = (25_000..25_222).map(of).collect::<String>();
    fs::write(
        log.join("audit_2026-11-23.jsonl"),
        format!("{blank}{second}{blank}\n"),
    )
    .expect("there's room");
    // What a disk refused to confirm stands in a further file as well.
    fs::write(
        log.join("audit_2026-11-23.1.jsonl"),
        of(25_000) + &of(25_001) + &of(25_221),
    )
    .expect("there's room");
    with_the_tool(&scratch);
    scratch
}

#[track_caller]
fn counted_right(recipe: &str, said: &str) {
    for number in SAID {
        assert!(
            said.contains(number),
            "{number} isn't in what this says: {recipe}\n{said}"
        );
    }
}

/// The blocks of commands of the page: with the tool, choosing, a report, the schemas, jq, exporting, and looking for a
/// text.
fn commands() -> [String; 7] {
    let commands = blocks(PAGE, "sh");
    commands.try_into().expect("they are seven")
}

/// Writes what the readers are told, as the page does.
fn with_schemas(scratch: &Scratch) {
    let [_, _, _, schemas, ..] = commands();
    run(shell(scratch).args(["-euc", &schemas]));
}

#[test]
fn the_commands_of_the_page_on_reading_count_right() {
    if !available("jq") {
        return;
    }
    let scratch = log(&ODD);
    let [
        with_the_tool,
        choosing,
        reporting,
        schemas,
        with_jq,
        exporting,
        finding,
    ] = commands().map(|block| run(shell(&scratch).args(["-euc", &block])));
    for number in ["25222", "217", "56.75"] {
        assert!(with_the_tool.contains(number), "{number}: {with_the_tool}");
    }
    assert!(choosing.contains("total"), "{choosing}");
    assert_eq!(reporting + &schemas + &exporting, "");
    let page = fs::read_to_string(scratch.join("report.html")).expect("it's there");
    assert!(page.contains("25,222") && page.contains("56.7500"));
    let lines = |name| {
        let text = fs::read_to_string(scratch.join(name)).expect("it's there");
        text.lines().count()
    };
    assert_eq!(lines("spans.jsonl"), 25_222);
    assert_eq!(lines("audit.csv"), 25_223);
    counted_right("jq", &with_jq);
    assert!(
        finding.contains(SKY) || finding.contains("user"),
        "{finding}"
    );
}

/// The programs of the page and the modules that they need.
fn programs() -> Vec<(&'static str, String)> {
    let modules = [
        "chdb",
        "datafusion",
        "duckdb",
        "pandas",
        "polars",
        "pyarrow",
        "pyspark",
        "sqlite3",
        "collections",
    ];
    let found = blocks(PAGE, "python").into_iter().map(|program| {
        let module = modules.into_iter().find(|module| {
            program.contains(&format!("import {module}"))
                || program.contains(&format!("from {module}"))
                || program.contains(&format!(", {module}\n"))
        });
        (module.unwrap_or_else(|| panic!("{program}")), program)
    });
    let found: Vec<_> = found.collect();
    let all: BTreeSet<_> = found.iter().map(|(module, _)| *module).collect();
    assert_eq!(all, modules.into_iter().collect());
    found
}

fn said_by(python: &std::ffi::OsStr, scratch: &Scratch, program: &str) -> std::process::Output {
    let mut python = Command::new(python);
    python.current_dir(scratch.path()).args(["-c", program]);
    // Spark looks up the machine's name, which need not have an address.
    python.env("SPARK_LOCAL_IP", "127.0.0.1");
    python.output().expect("it starts")
}

/// They refuse a file for one number in metadata that they can't hold, whatever they are told. By default no log has one.
const REFUSING: [&str; 3] = ["pandas", "polars", "pyarrow"];

#[test]
fn the_programs_of_the_page_on_reading_count_right() {
    let usual = log(&[]);
    let odd = log(&ODD);
    with_schemas(&usual);
    with_schemas(&odd);
    for (module, program) in programs() {
        if module == "pyspark" && !available("java") {
            continue;
        }
        let Some(python) = python_with(module) else {
            continue;
        };
        let refusing = REFUSING.contains(&module);
        let scratch = if refusing { &usual } else { &odd };
        let output = said_by(&python, scratch, &program);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{program}\n{output:?}");
        counted_right(&program, &said);
        if refusing {
            let output = said_by(&python, &odd, &program);
            assert!(
                !output.status.success(),
                "the page says that {module} refuses this: {output:?}"
            );
        }
    }
}

/// The page's words for the same four questions, each after its reader's recipe.
#[test]
fn each_reader_s_words_for_the_page_s_questions_answer_them() {
    const FILTERED: [&str; 4] = [
        "count(*) FILTER (WHERE ({}) = 'search')",
        "count(*) FILTER (WHERE {} > 1)",
        "{}",
        "count(*) FILTER (WHERE CAST({} AS VARCHAR) = '2026-11-23')",
    ];
    const PYTHON: [&str; 4] = [
        "({} == 'search').sum()",
        "({} > 1).sum()",
        "{}",
        "({}.astype(str) == '2026-11-23').sum()",
    ];
    let asking = [
        (
            "DuckDB",
            "duckdb",
            FILTERED,
            "duckdb.sql(\"\"\"SELECT {} FROM audit_log('audit_logs/audit_*.jsonl*')\"\"\").fetchall()[0]",
        ),
        ("pandas", "pandas", PYTHON, "({})"),
        (
            "Polars",
            "polars",
            [
                PYTHON[0],
                PYTHON[1],
                PYTHON[2],
                "({}.cast(str) == '2026-11-23').sum()",
            ],
            "log.select([c.alias(str(n)) for n, c in enumerate(({}))]).collect().row(0)",
        ),
        (
            "DataFusion",
            "datafusion",
            FILTERED,
            "list(context.sql(\"\"\"SELECT {} FROM (SELECT DISTINCT * FROM (SELECT * FROM plain \
                UNION ALL SELECT * FROM compressed))\"\"\").to_pylist()[0].values())",
        ),
        (
            "ClickHouse",
            "chdb",
            [
                "countIf({} = 'search')",
                "countIf({} > 1)",
                "{}",
                "countIf({} = '2026-11-23')",
            ],
            "str(session.query(\"\"\"SELECT {} FROM audit FINAL\"\"\")).strip().split(',')",
        ),
        (
            "Spark",
            "pyspark",
            [
                "count_if({} = 'search')",
                "count_if({} > 1)",
                "{}",
                "count_if({} = DATE'2026-11-23')",
            ],
            "spark.sql(\"\"\"SELECT {} FROM audit\"\"\").first()",
        ),
        (
            "SQLite",
            "sqlite3",
            FILTERED,
            "database.execute(\"\"\"SELECT {} FROM audit\"\"\").fetchone()",
        ),
    ];
    let rows = super::rows(PAGE);
    let scratch = log(&[]);
    with_schemas(&scratch);
    for (name, module, forms, asked) in asking {
        let row = rows.iter().find(|row| row[0] == name && row.len() == 5);
        let row = row.unwrap_or_else(|| panic!("{name} has a row"));
        if module == "pyspark" && !available("java") {
            continue;
        }
        let Some(python) = python_with(module) else {
            continue;
        };
        let recipe = programs().into_iter().find(|(of, _)| *of == module);
        let (_, recipe) = recipe.expect("it has one");
        let (mut asks, mut expected) = (Vec::new(), Vec::new());
        let answers = [37.0, 222.0, 100.5, 222.0];
        for ((cell, form), answer) in row[1..].iter().zip(forms).zip(answers) {
            if cell != "–" {
                asks.push(form.replace("{}", cell.trim_matches('`')));
                expected.push(answer);
            }
        }
        let asked = asked.replace("{}", &asks.join(", "));
        let program = format!("{recipe}\nprint()\nprint([float(answer) for answer in {asked}])");
        let output = said_by(&python, &scratch, &program);
        let said = String::from_utf8_lossy(&output.stdout);
        let answers: Vec<f64> = serde_json::from_str(said.lines().next_back().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{program}\n{error}: {output:?}"));
        assert_eq!(answers, expected, "{program}");
    }
}

#[test]
fn the_page_s_questions_to_duckdb_are_answered() {
    let Some(python) = python_with("duckdb") else {
        return;
    };
    let scratch = log(&ODD);
    with_schemas(&scratch);
    let gap = json!({
        "id": "gap", "timestamp": "2026-11-24T00:00:00.000000Z", "event_type": "audit_gap", "user_id": "007",
        "status": "error", "error_type": "AuditGap", "metadata": {"calls": 3},
    });
    let unknown = json!({
        "id": "unknown", "timestamp": "2026-11-24T23:30:00.000000Z", "event_type": "chat_completion",
        "user_id": "user-42", "model": "a/b", "latency_ms": 1.0, "status": "error", "error_type": "Cancelled",
        "metadata": {"team": "ops"}, "details": {"outcome": "unknown", "cost": 0.25, "served_model": "a/c"},
    });
    let day = scratch.join("audit_logs/audit_2026-11-24.jsonl");
    fs::write(day, format!("{gap}\n{unknown}\n")).expect("there's room");
    let questions = blocks(PAGE, "sql").concat();
    fs::write(scratch.join("questions.sql"), questions).expect("there's room");
    // East of UTC a session's day is another.
    let program = "
import duckdb
duckdb.sql(\"SET TimeZone = 'Asia/Tokyo'\")
duckdb.sql(open('audit.sql').read())
make, *asks = [ask for ask in open('questions.sql').read().split(';') if ask.strip()]
duckdb.sql(make)
for ask in asks:
    rows = duckdb.sql(ask).fetchall()
    print(len(rows), rows[-1])
";
    let output = said_by(&python, &scratch, program);
    let said = String::from_utf8_lossy(&output.stdout);
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), 6, "{output:?}");
    let cost = said[0].ends_with("(datetime.date(2026, 11, 24), 'ops', 0.25)");
    assert!(cost, "{}", said[0]);
    assert_eq!(said[1], "1 ('some/model', 25005, 100.5)");
    let unknown = said[2].starts_with("1 ") && said[2].contains("Cancelled");
    assert!(unknown, "{}", said[2]);
    assert!(said[3].starts_with("222 "), "{}", said[3]);
    // Those of user "007", not of "7", and not the gap.
    let calls = (0..25_222).filter(|number| user(*number) == "007").count();
    assert!(said[4].starts_with(&format!("{calls} ")), "{}", said[4]);
    assert_eq!(said[5], "1 ('a/b', 'a/c', 1)");
}

/// The code within a paragraph of a page that begins so.
fn code_in<'p>(page: &'p str, beginning: &str) -> &'p str {
    let mut codes = page.split('`');
    codes
        .find(|code| code.starts_with(beginning))
        .expect("it's there")
}

/// Without what the page says of a session that stays, the next day is never seen.
#[test]
fn a_session_of_datafusion_that_stays_sees_the_next_day() {
    let Some(python) = python_with("datafusion") else {
        return;
    };
    let page = document(PAGE);
    let setting = code_in(&page, "context.sql(\"SET ");
    let scratch = Scratch::new();
    with_the_tool(&scratch);
    with_schemas(&scratch);
    fs::create_dir(scratch.join("audit_logs")).expect("it can be made");
    fs::write(
        scratch.join("audit_logs/audit_2026-11-23.jsonl"),
        line(25_000, "null"),
    )
    .expect("there's room");
    for (setting, next, seen) in [("", 24, "1 1"), (setting, 25, "2 3")] {
        let program = format!(
            "import datafusion, shutil\nfrom audit_arrow import SCHEMA\n\
             context = datafusion.SessionContext()\n{setting}\n\
             context.register_json('log', 'audit_logs/', schema=SCHEMA, file_extension='.jsonl')\n\
             count = lambda: context.sql('SELECT count(id) AS n FROM log').to_pylist()[0]['n']\n\
             before = count()\n\
             shutil.copy('audit_logs/audit_2026-11-23.jsonl', 'audit_logs/audit_2026-11-{next}.jsonl')\n\
             print(before, count())"
        );
        let output = said_by(&python, &scratch, &program);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), seen, "{program}\n{output:?}");
    }
}

#[test]
fn polars_takes_the_decimals_of_metadata_as_they_are() {
    let Some(python) = python_with("polars") else {
        return;
    };
    let page = document(PAGE);
    let taken = code_in(&page, "polars.col(\"metadata\")");
    let scratch = Scratch::new();
    with_the_tool(&scratch);
    with_schemas(&scratch);
    // One that polars itself makes 0.9452706955539224 of, when it's asked by a path.
    let number = "0.9452706955539223";
    fs::write(
        scratch.join("day"),
        line(25_000, &format!(r#"{{"text":"x","score":{number}}}"#)),
    )
    .expect("there's room");
    let program = format!(
        "import polars\nfrom audit_polars import SCHEMA\n\
         print(polars.scan_ndjson('day', schema=SCHEMA).select({taken}).collect().item())"
    );
    let output = said_by(&python, &scratch, &program);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), number, "{program}\n{output:?}");
}

#[test]
fn duckdb_hands_on_what_others_refuse() {
    let odd = log(&ODD);
    with_schemas(&odd);
    for (module, handed) in [
        ("pandas", ".df().shape[0]"),
        ("polars", ".pl().height"),
        ("pyarrow", ".to_arrow_table().num_rows"),
    ] {
        let (Some(python), Some(_)) = (python_with(module), python_with("duckdb")) else {
            continue;
        };
        let program = format!(
            "import duckdb\nduckdb.sql(open('audit.sql').read())\n\
             print(duckdb.sql(\"FROM audit_log('audit_logs/audit_*.jsonl*')\"){handed})"
        );
        let output = said_by(&python, &odd, &program);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "25222\n",
            "{output:?}"
        );
    }
}

/// Each type comes out of each reader as what it is: none was made a text on the way.
#[test]
fn readers_get_the_types_of_the_schema() {
    let scratch = log(&[]);
    with_schemas(&scratch);
    let wanted = "['details.attempts', 3, 2.5, 500, True, '2026-11-23 10:00:00.025004']";
    let programs = [
        (
            "duckdb",
            "import duckdb\nduckdb.sql(open('audit.sql').read())\n\
            r = duckdb.sql(\"SELECT details.cached_tokens, 5 * details.cost, details.attempts[1].wait_ms, details.usage_reported, \
            timestamp AT TIME ZONE 'UTC' FROM audit_log('audit_logs/*') WHERE id LIKE '%25004'\").fetchall()[0]",
        ),
        (
            "polars",
            "import polars\nfrom audit_polars import SCHEMA\n\
            e = polars.read_ndjson('audit_logs/audit_2026-11-23.jsonl', schema=SCHEMA).filter(polars.col('id').str.ends_with('25004')).row(0, named=True)\n\
            d = e['details']\nr = [d['cached_tokens'], 5 * d['cost'], d['attempts'][0]['wait_ms'], d['usage_reported'], e['timestamp'].replace(tzinfo=None)]",
        ),
    ];
    for (module, program) in programs {
        let Some(python) = python_with(module) else {
            continue;
        };
        let program = format!("{program}\nprint(['details.attempts', *r[:4], str(r[4])])");
        let output = said_by(&python, &scratch, &program);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), wanted, "{program}\n{output:?}");
    }
}

/// Entries of calls of every kind, by the library itself.
fn logged(scratch: &Scratch) -> String {
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 7, "cost": 0, "prompt_tokens_details": {"cached_tokens": 2}});
    let mut body: Value = serde_json::from_str(&completion("hi")).expect("it is JSON");
    body["usage"] = usage;
    let server = Server::always(response(200, &[], body.to_string().as_bytes()));
    let path = scratch.join("logged");
    for details in [true, false] {
        let logger = Logger::new(&json!({
            "output_path": path, "base_url": server.base_url(), "api_key": "sk-test", "details": details
        }));
        let _ = logger.ask("hello").expect(audit_logger::ffi::AUDIT_OK);
        let mut failed = record();
        failed.status = text("error");
        failed.error_type = text("Boom");
        failed.metadata = text("{\"a\":1}");
        let _ = logger.log(&failed).expect(audit_logger::ffi::AUDIT_OK);
        logger.close(-1);
    }
    let day = super::support::last_file(&path);
    fs::read_to_string(day).expect("it's UTF-8")
}

#[test]
fn the_schema_of_an_entry_takes_what_is_written_and_nothing_that_is_damaged() {
    let Some(python) = python_with("jsonschema") else {
        return;
    };
    let scratch = Scratch::new();
    let lines = logged(&scratch);
    assert_eq!(lines.lines().count(), 4);
    assert!(lines.contains("\"cost\":0.0,"), "{lines}");
    fs::write(scratch.join("lines"), lines).expect("there's room");
    let schema = root().join("schema/entry.json");
    let program = r#"
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
check = jsonschema.Draft202012Validator(schema)
for line in open("lines"):
    entry = json.loads(line)
    check.validate(entry)
    assert set(entry) <= set(schema["properties"])
    assert set(entry.get("details", {})) <= set(schema["properties"]["details"]["properties"])
    for field in entry:
        if field == "details":
            continue
        assert list(check.iter_errors({key: entry[key] for key in entry if key != field})), field
        assert list(check.iter_errors({**entry, field: [0]})), field
print("fine")
"#;
    let mut python = Command::new(python);
    python
        .current_dir(scratch.path())
        .args(["-c", program])
        .arg(schema);
    assert_eq!(run(&mut python), "fine\n");
}
