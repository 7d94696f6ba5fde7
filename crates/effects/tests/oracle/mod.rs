//! Real SQLite as the judge of what we say about a text.
//!
//! A throw-away database is built, the text is prepared under an authorizer that notes every table
//! and function, then stepped to its end; what it did is compared with the effect that we gave.
//! It must not use our parser for anything but the answer under test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use countersign_effects::sql::{self, Opaque};
use countersign_model::{Effect, SqlFacts};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::Value;
use rusqlite::{Connection, Error};

/// The database that texts run against.
const WORLD: &str = r#"
    CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, email TEXT UNIQUE);
    CREATE TABLE orders(id INTEGER PRIMARY KEY, user_id INTEGER, total REAL DEFAULT 0, note TEXT);
    CREATE TABLE secrets(k TEXT UNIQUE, v TEXT);
    CREATE TABLE "odd name"(a, "b c", "select");
    CREATE TABLE lateral(x); CREATE TABLE only(x); CREATE TABLE unnest(x); CREATE TABLE "table"(x);
    CREATE INDEX orders_user ON orders(user_id);
    CREATE VIEW rich AS SELECT users.name AS name, upper(orders.note) AS note FROM users JOIN orders ON user_id = users.id;
    CREATE VIRTUAL TABLE docs USING fts5(body);
    INSERT INTO users VALUES (1, 'ann', 'a@x'), (2, 'bob', 'b@x'), (3, 'cid', NULL);
    INSERT INTO orders VALUES (1, 1, 9.5, 'a'), (2, 1, 3, 'b'), (3, 2, 7, NULL);
    INSERT INTO secrets VALUES ('k', 'v'), ('l', 'w');
    INSERT INTO "odd name" VALUES (1, 2, 3);
    INSERT INTO lateral VALUES (1); INSERT INTO only VALUES (1); INSERT INTO unnest VALUES (1);
    INSERT INTO "table" VALUES (1);
    INSERT INTO docs VALUES ('hello world'), ('brown fox');
"#;

/// Texts are stopped after this many instructions of SQLite's machine.
const STEPS_MAX: i32 = 200_000;

/// What real SQLite did with a text.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// SQLite accepted the text as one statement.
    pub(crate) prepared: bool,
    /// It found a second statement.
    pub(crate) several: bool,
    /// `sqlite3_stmt_readonly`.
    pub(crate) readonly: bool,
    /// Tables that the text itself (no view or trigger) reads or writes, lower case.
    pub(crate) tables: BTreeSet<String>,
    /// The same, where it may be a common table expression instead.
    pub(crate) sources: BTreeSet<String>,
    /// Functions that the text itself calls, lower case.
    pub(crate) functions: BTreeSet<String>,
    /// Other things that the authorizer was asked about.
    pub(crate) actions: BTreeSet<&'static str>,
    /// Anything at all is different afterwards.
    pub(crate) changed: bool,
    /// Some table, column, index, view or row is gone.
    pub(crate) lost: Vec<String>,
}

/// A throw-away database under an authorizer.
pub(crate) struct World {
    connection: Connection,
    before: BTreeMap<String, BTreeSet<String>>,
    /// What the authorizer noted; none while nobody asks.
    noted: Arc<Mutex<Option<Truth>>>,
    /// Instructions since the text began.
    steps: Arc<AtomicI32>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(WORLD).unwrap();
        let before = dump(&connection);
        let noted: Arc<Mutex<Option<Truth>>> = Arc::default();
        let steps: Arc<AtomicI32> = Arc::default();
        let (note, count) = (Arc::clone(&noted), Arc::clone(&steps));
        connection
            .authorizer(Some(move |context: AuthContext<'_>| {
                if let Some(truth) = note.lock().unwrap().as_mut() {
                    record(truth, &context);
                }
                // Nothing leaves memory, whatever a mutation comes up with.
                match context.action {
                    AuthAction::Attach { .. } => Authorization::Deny,
                    _ => Authorization::Allow,
                }
            }))
            .unwrap();
        connection
            .progress_handler(1_000, Some(move || count.fetch_add(1_000, Ordering::Relaxed) > STEPS_MAX))
            .unwrap();
        Self { connection, before, noted, steps }
    }

    /// Runs `text` and says what it did. The world is as new afterwards.
    pub(crate) fn run(&mut self, text: &str) -> Truth {
        *self.noted.lock().unwrap() = Some(Truth::default());
        self.steps.store(0, Ordering::Relaxed);
        let changes = self.connection.total_changes();
        let mut outcome = self.stepped(text);
        self.steps.store(0, Ordering::Relaxed);
        let after = dump(&self.connection);
        outcome.changed = after != self.before || self.connection.total_changes() != changes;
        for (what, items) in &self.before {
            let left = after.get(what);
            outcome.lost.extend(
                items
                    .iter()
                    .filter(|item| !left.is_some_and(|left| left.contains(*item)))
                    .map(|item| format!("{what}: {item}")),
            );
        }
        if outcome.changed {
            *self = Self::new();
        }
        outcome
    }

    /// Prepares `text` and steps it to its end. Errors half-way are fine: what counts is what is
    /// different afterwards.
    fn stepped(&self, text: &str) -> Truth {
        let prepared = self.connection.prepare(text);
        let mut truth = self.noted.lock().unwrap().take().unwrap();
        match prepared {
            Ok(mut statement) => {
                truth.prepared = true;
                truth.readonly = statement.readonly();
                let mut rows = statement.raw_query();
                for _ in 0..2_000 {
                    if !matches!(rows.next(), Ok(Some(_))) {
                        break;
                    }
                }
            }
            Err(error) => truth.several = matches!(error, Error::MultipleStatement),
        }
        truth
    }
}

fn record(truth: &mut Truth, context: &AuthContext<'_>) {
    if context.accessor.is_some() {
        return;
    }
    let other = match context.action {
        // A source of which no column is used is noted by the name in the text and without a database:
        // whether it is a table or a common table expression cannot be told.
        AuthAction::Read { column_name: "", table_name } if context.database_name.is_none() => {
            truth.sources.insert(table_name.to_ascii_lowercase());
            "read"
        }
        AuthAction::Read { table_name, .. } => {
            truth.tables.insert(table_name.to_ascii_lowercase());
            "read"
        }
        AuthAction::Insert { table_name } => {
            truth.tables.insert(table_name.to_ascii_lowercase());
            "insert"
        }
        AuthAction::Update { table_name, .. } => {
            truth.tables.insert(table_name.to_ascii_lowercase());
            "update"
        }
        AuthAction::Delete { table_name } => {
            truth.tables.insert(table_name.to_ascii_lowercase());
            "delete"
        }
        AuthAction::Function { function_name } => {
            truth.functions.insert(function_name.to_ascii_lowercase());
            "function"
        }
        AuthAction::Select | AuthAction::Recursive => "select",
        AuthAction::CreateTable { .. } => "create_table",
        AuthAction::CreateIndex { .. } | AuthAction::Reindex { .. } => "create_index",
        AuthAction::CreateView { .. } => "create_view",
        AuthAction::DropTable { .. } | AuthAction::DropVtable { .. } => "drop_table",
        AuthAction::DropIndex { .. } => "drop_index",
        AuthAction::DropView { .. } => "drop_view",
        AuthAction::AlterTable { .. } => "alter_table",
        AuthAction::Pragma { .. } => "pragma",
        _ => "other",
    };
    truth.actions.insert(other);
}

/// Everything that can be seen of the database: its objects, and of each table columns and rows' keys
/// (under `rows of …`) and rows in full (under `content of …`).
fn dump(connection: &Connection) -> BTreeMap<String, BTreeSet<String>> {
    let column = |sql: &str| -> BTreeSet<String> {
        let Ok(mut statement) = connection.prepare(sql) else {
            return BTreeSet::new();
        };
        let width = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut out = BTreeSet::new();
        while let Ok(Some(row)) = rows.next() {
            let cells: Vec<Value> = (0..width).map(|place| row.get(place).unwrap()).collect();
            out.insert(format!("{cells:?}"));
        }
        out
    };
    let mut out = BTreeMap::new();
    out.insert(
        "objects".to_owned(),
        column("SELECT type, name FROM sqlite_master UNION ALL SELECT type, name FROM sqlite_temp_master"),
    );
    let names: Vec<String> = {
        let mut statement = connection
            .prepare("SELECT name FROM pragma_table_list WHERE name NOT LIKE 'sqlite%' AND name NOT LIKE 'docs_%'")
            .unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    };
    for name in names {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        out.insert(
            format!("columns of {name}"),
            column(&format!("SELECT name FROM pragma_table_info('{}')", name.replace('\'', "''"))),
        );
        if name != "rich" {
            out.insert(format!("rows of {name}"), column(&format!("SELECT rowid FROM {quoted}")));
        }
        let content = column(&format!("SELECT * FROM {quoted}"));
        out.insert(format!("content of {name}"), [format!("{content:?}")].into());
    }
    let settings = "SELECT user_version, foreign_keys, (SELECT count(*) FROM pragma_database_list) \
                    FROM pragma_user_version, pragma_foreign_keys";
    out.insert("settings".to_owned(), [format!("{:?} {}", column(settings), connection.is_autocommit())].into());
    out
}

/// The laws: our answer about `text` against the truth. Says which law is broken.
pub(crate) fn broken_law(text: &str, answer: &Result<(Effect, SqlFacts), Opaque>, truth: &Truth) -> Option<String> {
    let Ok((effect, facts)) = answer else {
        return None;
    };
    if truth.several {
        return Some("sqlite sees a second statement".to_owned());
    }
    if *effect == Effect::Opaque {
        return Some("opaque is an error, not an effect".to_owned());
    }
    if !truth.prepared {
        return truth.changed.then(|| "not prepared, yet changed".to_owned());
    }
    let allowed: &[&str] = match effect {
        Effect::Read => &["read", "select", "function", "pragma"],
        Effect::Write => &[
            "read",
            "select",
            "function",
            "insert",
            "update",
            "create_table",
            "create_index",
            "create_view",
            "alter_table",
        ],
        _ => &[
            "read",
            "select",
            "function",
            "insert",
            "update",
            "delete",
            "drop_table",
            "drop_index",
            "drop_view",
            "alter_table",
        ],
    };
    if let Some(action) = truth.actions.iter().find(|action| !allowed.contains(*action)) {
        // Renaming and dropping a column are carried out through nested statements.
        if !facts.kinds.contains(&"alter_table".to_owned()) {
            return Some(format!("{effect:?}, but the authorizer saw `{action}`"));
        }
    }
    if *effect == Effect::Read && (truth.changed || !truth.readonly) {
        return Some(format!("read, but changed {} readonly {}", truth.changed, truth.readonly));
    }
    let gone = truth.lost.iter().find(|lost| !lost.starts_with("content of"));
    if let Some(lost) = gone
        && *effect < Effect::Destructive
    {
        return Some(format!("{effect:?}, but lost {lost}"));
    }
    let kind = |kind: &str| facts.kinds.iter().any(|known| known == kind);
    let missing = ["insert", "update", "delete"]
        .into_iter()
        .find(|action| truth.actions.contains(action) && !kind(action) && !(*action == "update" && kind("upsert")));
    if let Some(missing) = missing
        && !facts.kinds.iter().any(|kind| kind.contains('_'))
    {
        return Some(format!("the kind `{missing}` is missing"));
    }
    let mut bare: BTreeSet<&str> = facts.tables.iter().filter_map(|table| table.rsplit('.').next()).collect();
    if bare.contains("rich") {
        // A view that SQLite flattens into the query loses its name: its tables look read by the text.
        bare.extend(["users", "orders"]);
    }
    let system = |table: &str| table.starts_with("sqlite_") || table.starts_with("docs_");
    let ddl = facts.kinds.iter().any(|kind| kind.contains('_'));
    if let Some(table) = truth
        .tables
        .iter()
        .chain(truth.sources.iter().filter(|_| !text.to_ascii_lowercase().contains("with")))
        .find(|table| !(bare.contains(table.as_str()) || ddl && system(table)))
    {
        return Some(format!("the table `{table}` is missing"));
    }
    let called: BTreeSet<&str> = facts.functions.iter().map(String::as_str).collect();
    truth
        .functions
        .iter()
        .find(|function| !(called.contains(function.as_str()) || ddl && internal(function)))
        .map(|function| format!("the function `{function}` is missing"))
}

/// Functions that SQLite's own nested statements call to alter a schema.
fn internal(function: &str) -> bool {
    function.starts_with("sqlite_")
        || ["substr", "like", "printf", "raise", "quote", "length", "instr"].contains(&function)
}

/// Our answer, and the law that it breaks if it does.
pub(crate) fn judge(world: &mut World, text: &str) -> (Result<(Effect, SqlFacts), Opaque>, Truth, Option<String>) {
    let answer = sql::sqlite(text);
    let truth = world.run(text);
    let broken = broken_law(text, &answer, &truth);
    (answer, truth, broken)
}
