//! `schema`: what readers must be told of an entry, in the words of each. All of it is made from
//! schema/entry.json.

use std::fmt::Write as _;

use audit_logger::tool::{Error, members};
use clap::{Args, ValueEnum};

use crate::output::Output;

const ENTRY: &str = include_str!("../../../schema/entry.json");

/// Prints the types of an entry's fields, for a program that reads the log
///
/// With them every entry is read right; most readers guess from the first lines otherwise, and lose what comes late.
/// docs/reading.md has a use of each.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger schema --for duckdb > audit.sql      # a macro: FROM audit_log('audit_logs/audit_*.jsonl*')
  audit-logger schema --for clickhouse              # a table
  audit-logger schema --for polars > audit_schema.py

Exit codes: 0 printed, 2 wrong usage")]
pub struct Arguments {
    /// Which reader
    #[arg(long = "for", value_name = "READER")]
    reader: Reader,
}

#[derive(Clone, Copy, ValueEnum)]
enum Reader {
    /// SQL that makes a table macro, audit_log(files)
    Duckdb,
    /// SQL that makes a table
    Clickhouse,
    /// A Python module: SCHEMA, for scan_ndjson
    Polars,
    /// A Python module: SCHEMA, for PyArrow and DataFusion
    Arrow,
    /// A DDL text, for spark.read.schema
    Spark,
    /// The JSON Schema that the others are made from
    Jsonschema,
}

/// What a value is.
enum Kind {
    Text,
    Time,
    Whole,
    Decimal,
    Flag,
    /// JSON of the host's own.
    Any,
    List(Box<Kind>),
    Record(Vec<Field>),
}

struct Field {
    name: String,
    kind: Kind,
    /// It's there in every entry, and never null.
    is_required: bool,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let fields = match kind_of(ENTRY) {
        Some(Kind::Record(fields)) => fields,
        _ => return Err(Error::argument("the schema of this build can't be read")),
    };
    let text = match arguments.reader {
        Reader::Duckdb => duckdb(&fields),
        Reader::Clickhouse => clickhouse(&fields),
        Reader::Polars => polars(&fields),
        Reader::Arrow => arrow(&fields),
        Reader::Spark => spark(&fields),
        Reader::Jsonschema => ENTRY.to_owned(),
    };
    out.bytes(text.as_bytes());
    Ok(())
}

/// Reads a schema. Its members are read in their order, which is that of an entry.
fn kind_of(schema: &str) -> Option<Kind> {
    let rules = members(schema).ok()?;
    let member = |key: &str| {
        let found = rules.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    };
    let kind = member("type")?;
    let is = |name: &str| kind.contains(&format!("\"{name}\""));
    Some(match () {
        () if is("string") && member("format") == Some("\"date-time\"") => Kind::Time,
        () if is("string") => Kind::Text,
        () if is("integer") => Kind::Whole,
        () if is("number") => Kind::Decimal,
        () if is("boolean") => Kind::Flag,
        () if is("array") => Kind::List(Box::new(kind_of(member("items")?)?)),
        () => match member("properties") {
            None => Kind::Any,
            Some(properties) => {
                let required = member("required").unwrap_or_default();
                let field = |(name, rule): (String, String)| {
                    let is_required =
                        required.contains(&format!("\"{name}\"")) && !rule.contains("\"null\"");
                    let kind = kind_of(&rule)?;
                    Some(Field {
                        name,
                        kind,
                        is_required,
                    })
                };
                let properties = members(properties).ok()?;
                Kind::Record(properties.into_iter().map(field).collect::<Option<_>>()?)
            }
        },
    })
}

/// Each field as `show` has it, joined.
fn joined(fields: &[Field], between: &str, show: impl Fn(&Field) -> String) -> String {
    fields.iter().map(show).collect::<Vec<_>>().join(between)
}

fn duckdb(fields: &[Field]) -> String {
    fn of(kind: &Kind) -> String {
        match kind {
            Kind::Text => "VARCHAR".into(),
            Kind::Time => "TIMESTAMPTZ".into(),
            Kind::Whole => "BIGINT".into(),
            Kind::Decimal => "DOUBLE".into(),
            Kind::Flag => "BOOLEAN".into(),
            Kind::Any => "JSON".into(),
            Kind::List(items) => format!("{}[]", of(items)),
            Kind::Record(fields) => {
                let fields = joined(fields, ", ", |f| format!("\"{}\" {}", f.name, of(&f.kind)));
                format!("STRUCT({fields})")
            }
        }
    }
    let columns = joined(fields, ",\n    ", |f| {
        format!("\"{}\": '{}'", f.name, of(&f.kind))
    });
    // An entry that stands twice is one row.
    format!(
        "CREATE OR REPLACE MACRO audit_log(files) AS TABLE\n\
         SELECT DISTINCT ON (id) * FROM read_ndjson(files, columns = {{\n    {columns}\n}});\n"
    )
}

fn clickhouse(fields: &[Field]) -> String {
    fn of(field: &Kind, is_required: bool) -> String {
        let name = match field {
            Kind::Text | Kind::Any => "String",
            Kind::Time => "DateTime64(6, 'UTC')",
            Kind::Whole => "Int64",
            Kind::Decimal => "Float64",
            Kind::Flag => "Bool",
            // These have no null: what is absent is empty, or has null fields.
            Kind::List(items) => return format!("Array({})", of(items, false)),
            Kind::Record(fields) => {
                let fields = joined(fields, ", ", |f| {
                    format!("`{}` {}", f.name, of(&f.kind, false))
                });
                return format!("Tuple({fields})");
            }
        };
        match is_required {
            true => name.to_owned(),
            false => format!("Nullable({name})"),
        }
    }
    let columns = joined(fields, ",\n    ", |f| {
        format!("`{}` {}", f.name, of(&f.kind, f.is_required))
    });
    // An entry that stands twice is one row to a query with FINAL.
    format!(
        "CREATE TABLE IF NOT EXISTS audit (\n    {columns}\n)\n\
         ENGINE = ReplacingMergeTree\nORDER BY (timestamp, id);\n"
    )
}

fn spark(fields: &[Field]) -> String {
    fn of(kind: &Kind) -> String {
        match kind {
            Kind::Text | Kind::Any => "STRING".into(),
            Kind::Time => "TIMESTAMP".into(),
            Kind::Whole => "BIGINT".into(),
            Kind::Decimal => "DOUBLE".into(),
            Kind::Flag => "BOOLEAN".into(),
            Kind::List(items) => format!("ARRAY<{}>", of(items)),
            Kind::Record(fields) => {
                let fields = joined(fields, ", ", |f| format!("`{}`: {}", f.name, of(&f.kind)));
                format!("STRUCT<{fields}>")
            }
        }
    }
    let columns = joined(fields, ",\n", |f| format!("`{}` {}", f.name, of(&f.kind)));
    columns + "\n"
}

/// The types of a library for Python.
struct Python {
    text: &'static str,
    time: &'static str,
    whole: &'static str,
    decimal: &'static str,
    flag: &'static str,
    list: &'static str,
    record: [&'static str; 2],
    field: [&'static str; 3],
}

impl Python {
    /// An expression for a type.
    fn of(&self, kind: &Kind, indent: usize) -> String {
        match kind {
            Kind::Text | Kind::Any => self.text.into(),
            Kind::Time => self.time.into(),
            Kind::Whole => self.whole.into(),
            Kind::Decimal => self.decimal.into(),
            Kind::Flag => self.flag.into(),
            Kind::List(items) => format!("{}({})", self.list, self.of(items, indent)),
            Kind::Record(fields) => self.fields(fields, indent, self.record),
        }
    }

    fn fields<'f>(
        &self,
        fields: impl IntoIterator<Item = &'f Field>,
        indent: usize,
        around: [&str; 2],
    ) -> String {
        let mut text = around[0].to_owned();
        let [before, between, after] = self.field;
        for field in fields {
            let kind = self.of(&field.kind, indent + 1);
            let margin = "    ".repeat(indent + 1);
            // A String takes it all.
            let _ = write!(
                text,
                "\n{margin}{before}\"{}\"{between} {kind}{after},",
                field.name
            );
        }
        let _ = write!(text, "\n{}{}", "    ".repeat(indent), around[1]);
        text
    }
}

fn polars(fields: &[Field]) -> String {
    let names = Python {
        text: "polars.String",
        time: "polars.Datetime(\"us\", \"UTC\")",
        whole: "polars.Int64",
        decimal: "polars.Float64",
        flag: "polars.Boolean",
        list: "polars.List",
        record: ["polars.Struct({", "})"],
        field: ["", ":", ""],
    };
    let schema = names.fields(fields, 0, ["{", "}"]);
    format!("import polars\n\nSCHEMA = {schema}\n")
}

fn arrow(fields: &[Field]) -> String {
    let names = Python {
        text: "pyarrow.string()",
        time: "pyarrow.timestamp(\"us\", \"UTC\")",
        whole: "pyarrow.int64()",
        decimal: "pyarrow.float64()",
        flag: "pyarrow.bool_()",
        list: "pyarrow.list_",
        record: ["pyarrow.struct([", "])"],
        field: ["(", ",", ")"],
    };
    // Arrow has no type for objects of any fields, and doesn't take them for texts.
    let known = fields.iter().filter(|f| !matches!(f.kind, Kind::Any));
    let schema = names.fields(known, 0, ["pyarrow.schema([", "])"]);
    format!("import pyarrow\n\nSCHEMA = {schema}\n")
}
