//! What a tree says, collected over every node of it.
//!
//! It must not know what a name is worth (`names`) nor what a statement does (`effect`).
//! A common table expression is no table where it is in scope; where it is not, or where a name
//! carries a schema, the table is meant.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    AlterTableOperation, ColumnDef, ColumnOption, Expr, FromTable, ObjectName, ObjectNamePart, ObjectType,
    OnConflictAction, OnInsert, Query, RenameTableNameKind, SetExpr, Statement, TableConstraint, TableFactor,
    TableObject, Visit, Visitor,
};

use super::Opaque;
use super::names::is_harmless_call;

/// What the walk collects.
#[derive(Default)]
pub(super) struct Found {
    /// Kinds of all statements.
    pub(super) kinds: BTreeSet<String>,
    /// Tables as facts give them: lower case, with their schema unless that is `main`.
    pub(super) tables: BTreeSet<String>,
    /// The same without their schema.
    pub(super) bare_tables: BTreeSet<String>,
    /// All common table expressions, wherever they are in scope.
    pub(super) ctes: BTreeSet<String>,
    /// Functions called.
    pub(super) functions: BTreeSet<String>,
    /// First words of types.
    pub(super) types: BTreeSet<String>,
    /// Whether every `UPDATE` and `DELETE` is bounded by a condition on some column.
    pub(super) has_where: bool,
    /// Rows spelled out after `INSERT … VALUES`.
    pub(super) rows_spelled: u64,
    /// How many statements of the tree write rows.
    pub(super) writers: usize,
    /// Of each open query, the names that its `WITH` defines.
    scopes: Vec<BTreeSet<String>>,
}

impl Found {
    /// Walks the whole tree of `statement`.
    pub(super) fn of(statement: &Statement) -> Result<Self, Opaque> {
        let mut found = Self { has_where: true, ..Self::default() };
        match statement.visit(&mut found) {
            ControlFlow::Continue(()) => Ok(found),
            ControlFlow::Break(opaque) => Err(opaque),
        }
    }

    fn table(&mut self, name: &ObjectName) -> Result<(), Opaque> {
        let parts = parts(name)?;
        let (schema, table) = match parts.as_slice() {
            [table] => (None, table),
            [schema, table] => (Some(schema.as_str()), table),
            _ => {
                return Err(Opaque::naming("a name of too many parts:", &name.to_string()));
            }
        };
        self.bare_tables.insert(table.clone());
        match schema {
            None | Some("main") => {
                self.tables.insert(table.clone());
            }
            Some("temp") => {
                self.tables.insert(format!("temp.{table}"));
            }
            Some(attached) => {
                // Whatever the host calls its main database: the bare name too.
                self.tables.insert(format!("{attached}.{table}"));
                self.tables.insert(table.clone());
            }
        }
        Ok(())
    }

    /// A table where a query reads: a common table expression in scope hides a bare name.
    fn read_table(&mut self, name: &ObjectName) -> Result<(), Opaque> {
        if let [bare] = parts(name)?.as_slice()
            && self.scopes.iter().any(|scope| scope.contains(bare))
        {
            return Ok(());
        }
        self.table(name)
    }

    fn call(&mut self, name: &ObjectName) -> Result<(), Opaque> {
        let parts = parts(name)?;
        match parts.as_slice() {
            [name] if is_harmless_call(name) => {
                self.functions.insert(name.clone());
                Ok(())
            }
            _ => Err(Opaque::naming("outside the functions that are understood:", &parts.join("."))),
        }
    }

    fn column(&mut self, column: &ColumnDef) -> Result<(), Opaque> {
        self.data_type(&column.data_type.to_string());
        for option in &column.options {
            match &option.option {
                ColumnOption::ForeignKey(key) => self.table(&key.foreign_table)?,
                ColumnOption::OnConflict(_) => {
                    return Err(Opaque::because("a conflict clause in a table's definition"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `VARCHAR(10)`: the word before the parenthesis is no function.
    fn data_type(&mut self, spelled: &str) {
        let name = spelled.split('(').next().unwrap_or_default();
        if let Some(word) = name.split_whitespace().last() {
            self.types.insert(word.to_ascii_lowercase());
        }
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), Opaque> {
        let kind = match statement {
            Statement::Query(query) => {
                if matches!(*query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_)) {
                    return Ok(());
                }
                "select"
            }
            Statement::Insert(insert) => {
                if let TableObject::TableName(name) = &insert.table {
                    self.table(name)?;
                }
                if let Some(SetExpr::Values(values)) = insert.source.as_ref().map(|source| source.body.as_ref()) {
                    let rows = u64::try_from(values.rows.len()).unwrap_or(u64::MAX);
                    self.rows_spelled = self.rows_spelled.saturating_add(rows);
                }
                if let Some(OnInsert::OnConflict(on)) = &insert.on
                    && matches!(on.action, OnConflictAction::DoUpdate(_))
                {
                    self.kinds.insert("upsert".to_owned());
                }
                "insert"
            }
            Statement::Update(update) => {
                self.has_where &= update.selection.as_ref().is_some_and(bounded_by);
                self.target(&update.table.relation)?;
                "update"
            }
            Statement::Delete(delete) => {
                self.has_where &= delete.selection.as_ref().is_some_and(bounded_by);
                if let FromTable::WithFromKeyword(from) = &delete.from {
                    for table in from {
                        self.target(&table.relation)?;
                    }
                }
                "delete"
            }
            Statement::Explain { .. } => "explain",
            other => self.definition(other)?,
        };
        self.writers += usize::from(matches!(kind, "insert" | "update" | "delete"));
        self.kinds.insert(kind.to_owned());
        Ok(())
    }

    /// What is written to: never a common table expression.
    fn target(&mut self, factor: &TableFactor) -> Result<(), Opaque> {
        match factor {
            TableFactor::Table { name, .. } => self.table(name),
            _ => Err(Opaque::because("a statement that writes to something that is not a table")),
        }
    }

    fn definition(&mut self, statement: &Statement) -> Result<&'static str, Opaque> {
        Ok(match statement {
            Statement::CreateTable(create) => {
                for column in &create.columns {
                    self.column(column)?;
                }
                for constraint in &create.constraints {
                    if let TableConstraint::ForeignKey(key) = constraint {
                        self.table(&key.foreign_table)?;
                    }
                }
                "create_table"
            }
            Statement::CreateView(_) => "create_view",
            Statement::CreateIndex(create) => {
                // Known, but no table.
                if let Some(name) = &create.name {
                    self.bare_tables.insert(last_name(name)?);
                }
                "create_index"
            }
            Statement::AlterTable(alter) => {
                for operation in &alter.operations {
                    match operation {
                        AlterTableOperation::AddColumn { column_def, .. } => self.column(column_def)?,
                        AlterTableOperation::RenameTable {
                            table_name: RenameTableNameKind::As(name) | RenameTableNameKind::To(name),
                        } => self.table(name)?,
                        _ => {}
                    }
                }
                "alter_table"
            }
            Statement::Drop { object_type, names, .. } => {
                // An index too: its table is not in the text, and no name at all would satisfy every list.
                for name in names {
                    self.table(name)?;
                }
                match object_type {
                    ObjectType::Table => "drop_table",
                    ObjectType::View => "drop_view",
                    _ => "drop_index",
                }
            }
            _ => return Err(super::effect::outside(statement)),
        })
    }
}

fn flow(result: Result<(), Opaque>) -> ControlFlow<Opaque> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(opaque) => ControlFlow::Break(opaque),
    }
}

impl Visitor for Found {
    type Break = Opaque;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Opaque> {
        let mut scope = BTreeSet::new();
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            match checked_part(&cte.alias.name.value) {
                Ok(name) => scope.insert(name),
                Err(opaque) => return ControlFlow::Break(opaque),
            };
        }
        self.ctes.extend(scope.iter().cloned());
        self.scopes.push(scope);
        if matches!(*query.body, SetExpr::Select(_) | SetExpr::SetOperation { .. }) {
            self.kinds.insert("select".to_owned());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Opaque> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Opaque> {
        flow(self.read_table(relation))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Opaque> {
        flow(match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                self.table(name).and_then(|()| self.call(name))
            }
            TableFactor::Table { .. } | TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => Ok(()),
            _ => Err(Opaque::because("a table expression of another dialect")),
        })
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Opaque> {
        flow(match expr {
            Expr::Function(function) => self.call(&function.name),
            Expr::Cast { data_type, .. } => {
                self.data_type(&data_type.to_string());
                Ok(())
            }
            _ => Ok(()),
        })
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Opaque> {
        flow(self.statement(statement))
    }
}

/// The parts of a name, each in lower case.
fn parts(name: &ObjectName) -> Result<Vec<String>, Opaque> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => checked_part(&ident.value),
            ObjectNamePart::Function(_) => Err(Opaque::because("a name that is computed")),
        })
        .collect()
}

/// One part of a name. A point in it would make `"main.users"` and `main.users` one name in facts.
fn checked_part(part: &str) -> Result<String, Opaque> {
    if part.is_empty() || part.contains('.') || part.chars().any(char::is_control) {
        return Err(Opaque::naming("a name that cannot stand in facts:", part));
    }
    Ok(part.to_ascii_lowercase())
}

/// The last part of a name, in lower case.
pub(super) fn last_name(name: &ObjectName) -> Result<String, Opaque> {
    parts(name)?.pop().ok_or_else(|| Opaque::because("an empty name"))
}

/// Whether a condition bounds what it is the condition of: it names some column.
/// `WHERE 1` and `WHERE true` do not.
pub(super) fn bounded_by(condition: &Expr) -> bool {
    struct Columns;
    impl Visitor for Columns {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    condition.visit(&mut Columns).is_break()
}
