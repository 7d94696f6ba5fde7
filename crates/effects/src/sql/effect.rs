//! The effect of a statement: a positive list, everything else is opaque.
//!
//! It must not know who asks. It does not cover what triggers, cascades and conflict clauses of the
//! schema add: those are not in the text.

use countersign_model::Effect;
use sqlparser::ast::{
    AlterTable, AlterTableOperation, CreateTable, Delete, FromTable, Insert, ObjectType, OnConflictAction, OnInsert,
    SetExpr, SqliteOnConflict, Statement, TableObject, Update,
};

use super::Opaque;
use super::walk::{bounded_by, last_name};

/// What a statement does, and which verbs a text with this effect can begin with.
pub(super) struct Judged {
    pub(super) effect: Effect,
    pub(super) verbs: &'static [&'static str],
}

const fn judged(effect: Effect, verbs: &'static [&'static str]) -> Result<Judged, Opaque> {
    Ok(Judged { effect, verbs })
}

/// Judges the outermost statement. Nested ones are parts of it that the walk has refused or that
/// it stands for (`EXPLAIN DELETE` is judged as the `DELETE`, although SQLite does not run it).
pub(super) fn of(statement: &Statement) -> Result<Judged, Opaque> {
    match statement {
        Statement::Query(query) => body(&query.body),
        Statement::Insert(insert) => inserted(insert),
        Statement::Update(update) => updated(update),
        Statement::Delete(delete) => deleted(delete),
        Statement::CreateTable(create) => created(create),
        Statement::CreateView(view) if !view.temporary && !view.materialized => judged(Effect::Write, &["create"]),
        Statement::CreateIndex(_) => judged(Effect::Write, &["create"]),
        Statement::AlterTable(alter) => altered(alter),
        Statement::Drop {
            object_type: ObjectType::Table | ObjectType::View | ObjectType::Index,
            temporary: false,
            ..
        } => judged(Effect::Destructive, &["drop"]),
        Statement::Explain { analyze: false, statement, .. } => of(statement),
        other => Err(outside(other)),
    }
}

pub(super) fn outside(statement: &Statement) -> Opaque {
    let text = statement.to_string();
    let verb: Vec<&str> = text.split_whitespace().take(2).collect();
    Opaque::naming("outside the statements that are understood:", &verb.join(" "))
}

fn body(body: &SetExpr) -> Result<Judged, Opaque> {
    match body {
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::SetOperation { .. } => {
            judged(Effect::Read, &["select", "values"])
        }
        SetExpr::Insert(Statement::Insert(insert)) => inserted(insert),
        SetExpr::Update(Statement::Update(update)) => updated(update),
        SetExpr::Delete(Statement::Delete(delete)) => deleted(delete),
        _ => Err(Opaque::because("outside the queries that are understood")),
    }
}

/// The effect of a conflict clause on rows that are in the way.
fn conflict(or: Option<SqliteOnConflict>) -> Result<Effect, Opaque> {
    match or {
        None | Some(SqliteOnConflict::Abort | SqliteOnConflict::Fail | SqliteOnConflict::Ignore) => Ok(Effect::Write),
        Some(SqliteOnConflict::Replace) => Ok(Effect::Destructive),
        Some(SqliteOnConflict::Rollback) => Err(Opaque::because("OR ROLLBACK ends a transaction")),
    }
}

fn inserted(insert: &Insert) -> Result<Judged, Opaque> {
    let TableObject::TableName(table) = &insert.table else {
        return Err(Opaque::because("INSERT into something that is not a table"));
    };
    // A full-text index takes its commands (`delete-all`, `rebuild`) as rows of a column by its own name.
    let table = last_name(table)?;
    for column in &insert.columns {
        if last_name(column)? == table {
            return Err(Opaque::because("INSERT into a column named as its table can be a command"));
        }
    }
    let mut effect = conflict(insert.or)?;
    if insert.replace_into {
        effect = Effect::Destructive;
    }
    match &insert.on {
        None => {}
        Some(OnInsert::OnConflict(on)) => {
            if let OnConflictAction::DoUpdate(update) = &on.action
                && on.conflict_target.is_none()
                && update.selection.is_none()
            {
                // Whatever row is in the way is overwritten.
                effect = effect.max(Effect::Destructive);
            }
        }
        Some(_) => return Err(Opaque::because("an INSERT clause of another dialect")),
    }
    judged(effect, &["insert", "replace"])
}

fn updated(update: &Update) -> Result<Judged, Opaque> {
    let bounded = update.selection.as_ref().is_some_and(bounded_by);
    let effect = if bounded { Effect::Write } else { Effect::Destructive };
    judged(effect.max(conflict(update.or)?), &["update"])
}

fn deleted(delete: &Delete) -> Result<Judged, Opaque> {
    let FromTable::WithFromKeyword(from) = &delete.from else {
        return Err(Opaque::because("DELETE without FROM"));
    };
    if !delete.tables.is_empty() || delete.using.is_some() || from.len() != 1 {
        return Err(Opaque::because("DELETE from several tables"));
    }
    judged(Effect::Destructive, &["delete"])
}

fn created(create: &CreateTable) -> Result<Judged, Opaque> {
    if create.temporary {
        return Err(Opaque::because("a temporary table shadows others of its name"));
    }
    judged(Effect::Write, &["create"])
}

fn altered(alter: &AlterTable) -> Result<Judged, Opaque> {
    let mut effect = Effect::Write;
    for operation in &alter.operations {
        effect = effect.max(match operation {
            AlterTableOperation::AddColumn { .. } => Effect::Write,
            AlterTableOperation::DropColumn { .. }
            | AlterTableOperation::RenameColumn { .. }
            | AlterTableOperation::RenameTable { .. } => Effect::Destructive,
            _ => {
                return Err(Opaque::because("outside the ALTER TABLE that is understood"));
            }
        });
    }
    judged(effect, &["alter"])
}
