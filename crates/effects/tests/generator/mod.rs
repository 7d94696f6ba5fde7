//! Texts for the laws: plausible SQL out of a small grammar, then damaged.
//!
//! Everything follows from a tape of choices, so that a failing text shrinks with its tape. When the
//! tape is used up the first choice of each list is taken, which ends every recursion.

/// A tape of choices.
pub(crate) struct Tape<'a> {
    choices: std::slice::Iter<'a, u16>,
    depth: usize,
}

impl<'a> Tape<'a> {
    pub(crate) fn new(choices: &'a [u16]) -> Self {
        Self { choices: choices.iter(), depth: 0 }
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.choices.next().copied().unwrap_or(0)) % bound
    }

    fn pick(&mut self, list: &[&str]) -> String {
        // The front of a list is what SQLite runs; the rest is what it mostly refuses.
        let length = if self.below(8) == 7 { list.len() } else { list.len().div_ceil(3) };
        list[self.below(length)].to_owned()
    }

    fn maybe(&mut self, make: impl FnOnce(&mut Self) -> String) -> String {
        if self.below(3) == 2 { make(self) } else { String::new() }
    }
}

const TABLES: &[&str] = &[
    "users",
    "orders",
    "secrets",
    "rich",
    "USERS",
    "\"users\"",
    "[orders]",
    "`secrets`",
    "'users'",
    "main.orders",
    "main.\"secrets\"",
    "\"odd name\"",
    "x",
    "only",
    "lateral",
    "docs",
    "sqlite_master",
    "unnest",
    "\"table\"",
    "json_each('[1]')",
    "temp.users",
    "json_each",
    "pragma_table_list",
    "users INDEXED BY orders_user",
    "users NOT INDEXED",
    "pragma_table_info('users')",
    "lateral(1)",
    "unnest(x)",
    "table(users)",
    "json_tree('{}', '$')",
];
const COLUMNS: &[&str] = &[
    "\"id\"",
    "\"name\"",
    "\"nope\"",
    "\"total\"",
    "id",
    "rowid",
    "users.id",
    "k",
    "name",
    "[id]",
    "`v`",
    "*",
    "main.users.id",
    "x",
    "user_id",
    "total",
    "note",
    "email",
    "body",
    "value",
    "excluded.name",
];
const FUNCTIONS: &[&str] = &[
    "max",
    "lower",
    "\"upper\"",
    "[abs]",
    "`length`",
    "coalesce",
    "replace",
    "iif",
    "substr",
    "printf",
    "trim",
    "nullif",
    "likely",
    "count",
    "load_extension",
    "random",
    "changes",
    "json_extract",
    "left",
    "position",
    "ceil",
    "floor",
    "extract",
    "convert",
    "cast",
    "exists",
    "if",
    "rank",
    "sqlite_version",
    "current_timestamp",
    "date",
    "sqlite_offset",
    "key",
    "glob",
    "like",
    "zeroblob",
    "substring",
    "overlay",
    "array",
    "struct",
    "row",
    "values",
    "total",
];
const OPERATORS: &[&str] = &[
    "+",
    "=",
    "AND",
    "OR",
    "||",
    "->>",
    "LIKE",
    "GLOB",
    "IS",
    "IS NOT DISTINCT FROM",
    "->",
    "IS NOT",
    "<>",
    "MATCH",
    "REGEXP",
    "==",
    "!=",
    "<<",
    "&",
    "%",
    "COLLATE",
    "- -",
    "<=",
    "IN",
    "NOT IN",
    "@>",
    "::",
    "NOT LIKE",
    "DIV",
];
const LITERALS: &[&str] = &[
    "1",
    "'a'",
    "NULL",
    "x'00'",
    "1.5",
    "'it''s'",
    "\"a\"",
    "?",
    ":a",
    "@b",
    "$c",
    "?1",
    "0x1f",
    "1_000",
    "-1",
    "''",
    "'\\'",
    "'--'",
    "'/*'",
    "TRUE",
    "1e3",
    ".5",
    "5.",
    "N'a'",
    "E'a\\n'",
    "DATE '2020-01-01'",
    "INTERVAL 1 DAY",
];

fn expr(tape: &mut Tape<'_>) -> String {
    tape.depth += 1;
    let choice = if tape.depth > 4 { tape.below(2) } else { tape.below(15).saturating_sub(2) };
    let text = match choice {
        0 => tape.pick(LITERALS),
        1 => tape.pick(COLUMNS),
        2 | 3 => format!("{} {} {}", expr(tape), tape.pick(OPERATORS), expr(tape)),
        4 => format!("{}({})", tape.pick(FUNCTIONS), expr(tape)),
        5 => format!("{}({}, {})", tape.pick(FUNCTIONS), expr(tape), expr(tape)),
        6 => format!("({})", select(tape)),
        7 => format!("{} IN ({})", expr(tape), select(tape)),
        8 => format!("CASE WHEN {} THEN {} END", expr(tape), expr(tape)),
        9 => format!(
            "CAST({} AS {})",
            expr(tape),
            tape.pick(&["INTEGER", "VARCHAR(9)", "DECIMAL(1, 2)", "\"odd\"(3)", "TEXT"])
        ),
        10 => format!("EXISTS ({})", select(tape)),
        11 => format!(
            "{}({}) {}",
            tape.pick(FUNCTIONS),
            expr(tape),
            tape.pick(&["OVER ()", "FILTER (WHERE 1)", "OVER (ORDER BY 1)", "OVER w", "WITHIN GROUP (ORDER BY id)"])
        ),
        _ => format!("({}, {})", expr(tape), expr(tape)),
    };
    tape.depth -= 1;
    text
}

fn source(tape: &mut Tape<'_>) -> String {
    tape.depth += 1;
    let choice = if tape.depth > 5 { 0 } else { tape.below(8) };
    let text = match choice {
        0 | 1 => format!("{}{}", tape.pick(TABLES), tape.maybe(|tape| tape.pick(&[" AS y", " z", " 'w'", " only"]))),
        2 => format!("{}, {}", source(tape), source(tape)),
        3 | 4 => format!(
            "{} {} {}{}",
            source(tape),
            tape.pick(&[
                "JOIN",
                "LEFT JOIN",
                "NATURAL JOIN",
                "CROSS JOIN",
                "NATURAL JOIN",
                "FULL OUTER JOIN",
                "STRAIGHT_JOIN",
                "LEFT SEMI JOIN",
                "CROSS APPLY",
                "ASOF JOIN"
            ]),
            source(tape),
            tape.maybe(|tape| tape.pick(&[" ON 1", " USING (id)"]))
        ),
        5 => format!("({})", select(tape)),
        6 => format!("({})", source(tape)),
        _ => format!("{} {}", tape.pick(&["LATERAL", "ONLY", "TABLE", "UNNEST"]), source(tape)),
    };
    tape.depth -= 1;
    text
}

fn with(tape: &mut Tape<'_>) -> String {
    let name = tape.pick(&["x", "users", "\"secrets\"", "replace", "count", "load_extension", "only"]);
    let columns = tape.maybe(|tape| tape.pick(&["(a)", "(a, b)", "(id, name)"]));
    let body = if tape.below(6) == 5 { write(tape) } else { select(tape) };
    let more = tape.maybe(|tape| format!(", y AS NOT MATERIALIZED ({})", select(tape)));
    format!("WITH {}{name}{columns} AS ({body}){more} ", tape.pick(&["", "RECURSIVE "]))
}

fn select(tape: &mut Tape<'_>) -> String {
    tape.depth += 1;
    if tape.depth > 4 {
        tape.depth -= 1;
        return tape.pick(&["SELECT 1", "SELECT * FROM secrets", "VALUES (1)", "SELECT id FROM x"]);
    }
    let with = tape.maybe(with);
    let mut text = format!(
        "{with}SELECT {}{}",
        tape.pick(&["", "DISTINCT ", "ALL ", "TOP 1 "]),
        if tape.below(2) == 0 { "*".to_owned() } else { expr(tape) }
    );
    text += &tape.maybe(|tape| format!(", {} AS q", expr(tape)));
    if tape.below(5) > 0 {
        text += &format!(" FROM {}", source(tape));
    }
    text += &tape.maybe(|tape| format!(" WHERE {}", expr(tape)));
    text += &tape.maybe(|tape| format!(" GROUP BY {} HAVING {}", expr(tape), expr(tape)));
    text += &tape.maybe(|tape| format!(" WINDOW w AS (ORDER BY {})", expr(tape)));
    text += &tape.maybe(|tape| {
        format!(" {} {}", tape.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT", "MINUS"]), select(tape))
    });
    text += &tape.maybe(|tape| format!(" ORDER BY {} LIMIT 3", expr(tape)));
    text += &tape
        .maybe(|tape| tape.pick(&[" LIMIT 1, 2", " FOR UPDATE", " FETCH FIRST 1 ROW ONLY", " OFFSET 1", " INTO y"]));
    tape.depth -= 1;
    text
}

fn write(tape: &mut Tape<'_>) -> String {
    let table = tape.pick(TABLES);
    let returning = tape.maybe(|tape| format!(" RETURNING {}", expr(tape)));
    match tape.below(8) {
        0 | 1 => format!(
            "UPDATE {}{table} SET {} = {}{}{}{returning}",
            tape.pick(&["", "", "OR IGNORE ", "OR REPLACE ", "ONLY "]),
            tape.pick(&["name", "id", "total", "v", "(id, name)"]),
            expr(tape),
            tape.maybe(|tape| format!(" FROM {}", source(tape))),
            tape.maybe(|tape| format!(" WHERE {}", expr(tape)))
        ),
        2 | 3 => format!("DELETE FROM {table}{}{returning}", tape.maybe(|tape| format!(" WHERE {}", expr(tape)))),
        4 => format!(
            "{} INTO {table} {}{returning}",
            tape.pick(&["INSERT", "REPLACE", "INSERT OR REPLACE", "INSERT OR IGNORE"]),
            select(tape)
        ),
        5 => format!(
            "INSERT INTO {table}({}) VALUES ({}){}{returning}",
            tape.pick(&["id", "name", "k", "docs", "email"]),
            expr(tape),
            tape.maybe(|tape| tape.pick(&[
                " ON CONFLICT DO NOTHING",
                " ON CONFLICT DO UPDATE SET name = 1",
                " ON CONFLICT (id) DO UPDATE SET name = upper(name)"
            ]))
        ),
        6 => format!("INSERT INTO {table} VALUES ({}, {}, {}){returning}", expr(tape), expr(tape), expr(tape)),
        _ => format!("INSERT INTO {table} DEFAULT VALUES{returning}"),
    }
}

fn define(tape: &mut Tape<'_>) -> String {
    let table = tape.pick(TABLES);
    match tape.below(8) {
        0 => format!(
            "CREATE TABLE fresh(id INTEGER PRIMARY KEY{}, b TEXT DEFAULT ({}))",
            tape.pick(&["", " ON CONFLICT REPLACE", " REFERENCES users(id)", " CHECK (id > 1)"]),
            expr(tape)
        ),
        1 => format!("CREATE {}TABLE fresh AS {}", tape.pick(&["", "TEMP ", "VIRTUAL ", "EXTERNAL "]), select(tape)),
        2 => format!("CREATE {}INDEX fresh ON {table}({})", tape.pick(&["", "UNIQUE "]), expr(tape)),
        3 => format!("CREATE VIEW fresh AS {}", select(tape)),
        4 => format!("DROP {} {table}", tape.pick(&["TABLE", "VIEW", "INDEX", "TABLE IF EXISTS", "TRIGGER"])),
        5 => format!(
            "ALTER TABLE {table} {}",
            tape.pick(&[
                "ADD COLUMN z DEFAULT 1",
                "DROP COLUMN note",
                "RENAME TO fresh",
                "RENAME note TO n",
                "RENAME COLUMN note TO n"
            ])
        ),
        6 => tape.pick(&[
            "PRAGMA user_version = 3",
            "VACUUM",
            "ANALYZE",
            "REINDEX",
            "BEGIN",
            "COMMIT",
            "SAVEPOINT a",
            "ATTACH 'x' AS y",
            "DETACH y",
        ]),
        _ => format!("CREATE TRIGGER fresh AFTER INSERT ON {table} BEGIN {}; END", write(tape)),
    }
}

/// A whole text: a statement, perhaps explained, perhaps damaged.
pub(crate) fn text(tape: &mut Tape<'_>) -> String {
    let prefix = tape.pick(&["", "", "", "", "", "EXPLAIN ", "EXPLAIN QUERY PLAN ", "EXPLAIN ANALYZE "]);
    let statement = match tape.below(10) {
        0..=5 => select(tape),
        6 | 7 => write(tape),
        8 => format!("{}{}", with(tape), write(tape)),
        _ => define(tape),
    };
    let mut text = prefix + &statement;
    for _ in 0..[0, 0, 0, 1, 2, 4][tape.below(6)] {
        damage(tape, &mut text);
    }
    text
}

const HOSTILE: &[&str] = &[
    " ",
    "'",
    "\"",
    "`",
    "[",
    "]",
    "/*",
    "*/",
    "--",
    "\n",
    "\r",
    ";",
    "\\",
    "(",
    ")",
    ",",
    ".",
    "\u{a0}",
    "\u{feff}",
    "\u{2028}",
    "\u{b}",
    "\u{c}",
    "\0",
    "$",
    "$$",
    "@",
    ":",
    "::",
    "?",
    "#",
    "!",
    "{",
    "}",
    "x'",
    "N'",
    "E'",
    "U&'",
    "B'",
    "q'[",
    "0x",
    "1e",
    "_",
    "/*!",
    "/*+",
    "--\r",
    " NOT ",
    " FROM ",
    " AS ",
    " ONLY ",
    " LATERAL ",
    " TABLE ",
    " SELECT ",
    " UNION ",
    " WITH ",
    " VALUES ",
    " INTO secrets ",
    " REPLACE ",
    " DISTINCT ",
    " ON ",
    " IN ",
    " USING ",
    "; DROP TABLE users",
    " load_extension('x') ",
    " UPDATE ",
    " DELETE ",
    " RETURNING ",
    " OVER ",
    " END ",
    " WHERE ",
    " OR ROLLBACK ",
    " secrets ",
    " é ",
    "''",
    "\"\"",
    " INDEXED BY ",
    " ILIKE ",
    " ANY ",
    " ALL ",
    " ROW ",
    "->",
    "=>",
];

/// Inserts, removes or moves something at a place in the text.
fn damage(tape: &mut Tape<'_>, text: &mut String) {
    let chars: Vec<char> = text.chars().collect();
    let place = tape.below(chars.len() + 1);
    let (before, after) = chars.split_at(place);
    let (before, after): (String, String) = (before.iter().collect(), after.iter().collect());
    *text = match tape.below(4) {
        0 | 1 => before + &tape.pick(HOSTILE) + &after,
        2 => before + &after.chars().skip(1 + tape.below(6)).collect::<String>(),
        _ => {
            // At a word's edge, where most damage makes a difference.
            match after.find(' ') {
                Some(space) => before + &after[..space] + " " + &tape.pick(HOSTILE) + &after[space..],
                None => before + &after,
            }
        }
    };
}
