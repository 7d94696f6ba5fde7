//! What was written, read back by the library's own reader.

use bytes::Bytes;
use countersign_receipt::Hash;
use parquet::basic::{ConvertedType, Type};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Value, json};

use super::*;
use crate::export::Joiner;
use crate::sample::{START, run};

fn head() -> TreeHead {
    TreeHead { size: 11, root: Hash::new([7; 32]) }
}

/// The table of a run that holds one of everything, in groups of so many rows.
fn written(group_rows: usize) -> SerializedFileReader<Bytes> {
    let mut table = Table::new(Vec::new(), "example.com/log", &head()).unwrap();
    table.group_rows = group_rows;
    let mut joiner = Joiner::new("example.com/log", None);
    let mut pushed = Vec::new();
    for (leaf, record) in run() {
        pushed.extend(joiner.take(leaf, record, |line| table.push(line).unwrap()));
    }
    pushed.extend(joiner.rest(|line| table.push(line).unwrap()));
    let (bytes, rows) = table.finish().unwrap();
    assert_eq!(rows, pushed.into_iter().filter(|has_row| *has_row).count() as u64);
    SerializedFileReader::new(Bytes::from(bytes)).unwrap()
}

fn rows(reader: &SerializedFileReader<Bytes>) -> Vec<Value> {
    let value = |field: &Field| match field {
        Field::Null => Value::Null,
        Field::Long(number) | Field::TimestampMillis(number) => json!(number),
        Field::Str(text) => json!(text),
        other => panic!("{other:?}"),
    };
    let row = |row: parquet::record::Row| {
        Value::Object(row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect())
    };
    reader.get_row_iter(None).unwrap().map(|found| row(found.unwrap())).collect()
}

#[test]
fn rows_read_back_as_they_were_recorded() {
    let reader = written(GROUP_ROWS);
    let rows = rows(&reader);
    let of = |leaf: u64| rows.iter().find(|row| row["leaf"] == leaf).unwrap();
    let first = of(0);
    for (column, expected) in [
        ("kind", json!("intent")),
        ("proposed_at", json!(START)),
        ("verdict", json!("allow")),
        ("reason", json!("policy_permit")),
        ("agent", json!("coder")),
        ("run", json!("r-7")),
        ("session", json!("s-1")),
        ("upstream", json!("crm")),
        ("target", json!("crm-db")),
        ("environment", json!("production")),
        ("effect", json!("read")),
        ("count", json!(1)),
        ("ticket", Value::Null),
        ("outcome", json!(1)),
        ("status", json!("done")),
        ("duration_ms", json!(45)),
    ] {
        assert_eq!(first[column], expected, "{column}: {first}");
    }
    for (leaf, verdict, status) in
        [(2, "deny", Value::Null), (3, "require_approval", Value::Null), (6, "allow", json!("unknown"))]
    {
        assert_eq!((&of(leaf)["verdict"], &of(leaf)["status"]), (&json!(verdict), &status), "{}", of(leaf));
    }
    assert_eq!(of(2)["reason"], "code_freeze");
    // A flood that was counted, and an intent without an outcome, which comes last.
    assert_eq!((&of(9)["kind"], &of(9)["count"], &of(9)["tool"]), (&json!("refused"), &json!(3), &Value::Null));
    assert_eq!((&rows.last().unwrap()["leaf"], &rows.last().unwrap()["status"]), (&json!(10), &json!("open")));
    // A consent is no call, and an outcome no row of its own.
    assert!(!rows.iter().any(|row| row["leaf"] == 1 || row["leaf"] == 5));
}

#[test]
fn groups_change_nothing_and_the_file_says_what_it_is_of() {
    let whole = written(GROUP_ROWS);
    let small = written(2);
    assert_eq!(rows(&small), rows(&whole));
    assert!(small.num_row_groups() > 1 && whole.num_row_groups() == 1);
    let metadata = whole.metadata().file_metadata();
    let entries = metadata.key_value_metadata().unwrap();
    let of = |key: &str| entries.iter().find(|entry| entry.key == key).and_then(|entry| entry.value.clone()).unwrap();
    assert_eq!((of("countersign.log"), of("countersign.size")), ("example.com/log".to_owned(), "11".to_owned()));
    assert_eq!(of("countersign.root"), head().root.to_string());
    let schema = metadata.schema_descr();
    assert_eq!(schema.num_columns(), COLUMNS.len());
    for column in schema.columns() {
        let expected = match (column.physical_type(), column.name()) {
            (Type::INT64, "at" | "proposed_at") => ConvertedType::TIMESTAMP_MILLIS,
            (Type::INT64, _) => ConvertedType::NONE,
            (Type::BYTE_ARRAY, _) => ConvertedType::UTF8,
            other => panic!("{other:?}"),
        };
        assert_eq!(column.converted_type(), expected, "{}", column.name());
    }
}

#[test]
fn an_empty_table_and_a_number_that_does_not_fit() {
    let (bytes, rows) = Table::new(Vec::new(), "log", &head()).unwrap().finish().unwrap();
    assert_eq!(rows, 0);
    assert_eq!(SerializedFileReader::new(Bytes::from(bytes)).unwrap().metadata().file_metadata().num_rows(), 0);
    assert!(Waiting::default().push(Cell::Number(Some(u64::MAX))).is_err());
}
