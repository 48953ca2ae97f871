//! Both schemas are the same schema, every query is taken by both engines, and every unique rule has a name.

use std::collections::BTreeSet;

use crate::arena::Arena;
use database::{CONSTRAINTS, Database, DbError, Engine};
use expect_test::expect_file;

crate::on_both_engines!(
    the_schema_is_schema_sql,
    every_query_is_taken,
    every_unique_rule_has_a_name,
    opening_twice_changes_nothing,
    each_migration_keeps_what_is_there,
    a_newer_schema_is_refused,
);

/// One line a column and an index, in words that both engines share.
async fn described(arena: &Arena) -> String {
    let lines = match arena.engine {
        Engine::Postgres => {
            arena
                .raw(
                    "SELECT format('%s.%s %s%s', table_name, column_name, CASE data_type \
                        WHEN 'bigint' THEN 'INTEGER' WHEN 'boolean' THEN 'BOOLEAN' WHEN 'bytea' THEN 'BYTES' \
                        WHEN 'jsonb' THEN 'JSON' WHEN 'timestamp with time zone' THEN 'TIME' \
                        WHEN 'text' THEN CASE WHEN collation_name = 'C' THEN 'TEXT' ELSE 'TEXT IN NO ORDER' END \
                        ELSE data_type END, \
                        CASE is_nullable WHEN 'YES' THEN '' ELSE ' NOT NULL' END) \
                     FROM information_schema.columns \
                     WHERE table_schema = 'public' AND table_name <> 'refinery_schema_history' \
                     UNION ALL \
                     SELECT format('%s %s (%s)%s', CASE WHEN x.indisunique THEN 'UNIQUE' ELSE 'INDEX' END, \
                        i.relname, \
                        (SELECT string_agg(a.attname, ', ' ORDER BY k.place) FROM unnest(x.indkey) WITH ORDINALITY \
                            AS k (column_number, place) \
                            JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.column_number), \
                        CASE WHEN x.indpred IS NULL THEN '' ELSE ' PARTIAL' END) \
                     FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
                        JOIN pg_class t ON t.oid = x.indrelid \
                     WHERE t.relnamespace = 'public'::regnamespace AND t.relname <> 'refinery_schema_history'",
                )
                .await
        }
        Engine::Sqlite => {
            // SQLite has fewer types: what a column means is told by what PostgreSQL calls it, below.
            arena
                .raw(
                    "SELECT m.name || '.' || c.name || ' ' || c.type || \
                        CASE WHEN c.\"notnull\" = 1 THEN ' NOT NULL' ELSE '' END \
                     FROM sqlite_schema m JOIN pragma_table_info(m.name) c \
                     WHERE m.type = 'table' AND m.name NOT LIKE 'refinery%' AND m.name NOT LIKE 'sqlite%' \
                     UNION ALL \
                     SELECT CASE WHEN x.\"unique\" = 1 THEN 'UNIQUE ' ELSE 'INDEX ' END || \
                        CASE WHEN x.origin = 'pk' THEN m.name || '_pkey' ELSE x.name END || ' (' || \
                        (SELECT group_concat(k.name, ', ' ORDER BY k.seqno) FROM pragma_index_info(x.name) k) || ')' || \
                        CASE WHEN x.partial = 1 THEN ' PARTIAL' ELSE '' END \
                     FROM sqlite_schema m JOIN pragma_index_list(m.name) x \
                     WHERE m.type = 'table' AND m.name NOT LIKE 'refinery%' \
                     UNION ALL \
                     SELECT 'UNIQUE ' || m.name || '_pkey (' || \
                        (SELECT group_concat(c.name, ', ' ORDER BY c.pk) FROM pragma_table_info(m.name) c WHERE c.pk > 0) || ')' \
                     FROM sqlite_schema m WHERE m.type = 'table' AND m.name NOT LIKE 'refinery%' \
                        AND NOT EXISTS (SELECT 1 FROM pragma_index_list(m.name) x WHERE x.origin = 'pk')",
                )
                .await
        }
    };
    lines.into_iter().collect::<BTreeSet<_>>().into_iter().map(|line| line + "\n").collect()
}

const HEADER: &str = "\
-- What all migrations add up to, on both engines; made by the test `the_schema_is_schema_sql`.
-- Types are PostgreSQL's in our words (value.rs says what SQLite makes of them).
";

async fn the_schema_is_schema_sql(arena: Arena) {
    let found = described(&arena).await;
    let file = expect_file!["../../schema.sql"];
    if arena.engine == Engine::Postgres {
        return file.assert_eq(&format!("{HEADER}{found}"));
    }
    // SQLite stores a boolean and a time as INTEGER, and JSON as TEXT.
    let expected = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.sql")).unwrap();
    let expected: String = expected
        .lines()
        .filter(|line| !line.starts_with("--"))
        .map(|line| {
            let line = line.replace(" BOOLEAN", " INTEGER").replace(" TIME", " INTEGER");
            line.replace(" JSON", " TEXT").replace(" BYTES", " BLOB") + "\n"
        })
        .collect();
    let differ: Vec<&str> = found
        .lines()
        .filter(|line| !expected.contains(&format!("{line}\n")))
        .chain(expected.lines().filter(|line| !found.contains(&format!("{line}\n"))))
        .collect();
    assert!(
        differ.is_empty(),
        "not on both engines: {differ:?}; is schema.sql up to date (UPDATE_EXPECT=1)?"
    );
}

async fn every_query_is_taken(arena: Arena) {
    let engine = arena.engine;
    let wrong = arena
        .database
        .write(move |tx| {
            let mut wrong = Vec::new();
            for (name, both) in database::queries() {
                if let Err(error) = tx.attempt(|tx| tx.prepare(both.on(engine))) {
                    wrong.push(format!("{name}: {error}"));
                }
            }
            Ok(wrong)
        })
        .await
        .unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(database::queries().count() > 20);
}

/// Also that no query hides from the test above: each `const` that is SQL stands in its file's list.
#[test]
fn every_query_is_listed() {
    let listed: BTreeSet<&str> = database::queries().map(|(name, _)| name).collect();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let flat = text.replace('\n', " ");
        for part in flat.split("const ").skip(1) {
            let Some((name, rest)) = part.split_once(": ") else { continue };
            let is_query = rest.starts_with("Both = ")
                || rest.strip_prefix("&str = ").is_some_and(|value| {
                    ["\"SELECT", "\"INSERT", "\"UPDATE", "\"DELETE", "\"WITH", "concat!"]
                        .iter()
                        .any(|word| value.trim_start().starts_with(word))
                });
            if is_query && name.chars().all(|c| c.is_ascii_uppercase() || c == '_') && file != "migrations" {
                let name = format!("{file}::{name}");
                assert!(listed.contains(name.as_str()), "{name} is not in its QUERIES");
            }
        }
    }
}

async fn every_unique_rule_has_a_name(arena: Arena) {
    let described = described(&arena).await;
    let rules: BTreeSet<(String, String)> = described
        .lines()
        .filter_map(|line| line.strip_prefix("UNIQUE "))
        .map(|line| {
            let (name, columns) = line.split_once(" (").unwrap();
            (name.to_owned(), columns.split(')').next().unwrap().to_owned())
        })
        .collect();
    let named: BTreeSet<(String, String)> = CONSTRAINTS
        .iter()
        .map(|(columns, name)| {
            let columns: Vec<&str> = columns.split(", ").map(|c| c.split('.').nth(1).unwrap()).collect();
            ((*name).to_owned(), columns.join(", "))
        })
        .collect();
    assert_eq!(rules, named);
}

async fn opening_twice_changes_nothing(arena: Arena) {
    let before = described(&arena).await;
    let second = arena.another().await;
    second.close().await;
    assert_eq!(before, described(&arena).await);
}

/// A database of the version before, with rows in it, becomes the newest and keeps them.
async fn each_migration_keeps_what_is_there(arena: Arena) {
    let newest = described(&arena).await;
    crate::stock::workspaces(&arena.database).await;
    arena.database.close().await;
    for undone in [
        "DROP INDEX calls_workspace",
        "DROP INDEX calls_number",
        "DROP INDEX calls_agent",
        "DROP INDEX calls_started_at",
        "CREATE INDEX calls_workspace ON calls (workspace_id, id)",
        "CREATE INDEX calls_number ON calls (number_id, id)",
        "CREATE INDEX calls_agent ON calls (agent_id, id)",
        "DELETE FROM refinery_schema_history WHERE version = 2",
    ] {
        arena.raw(undone).await;
    }
    assert_ne!(described(&arena).await, newest);
    let before = arena.raw("SELECT id, name, revision FROM workspaces ORDER BY id").await;
    assert!(!before.is_empty());
    let migrated = arena.another().await;
    assert_eq!(described(&arena).await, newest);
    assert_eq!(arena.raw("SELECT id, name, revision FROM workspaces ORDER BY id").await, before);
    migrated.close().await;
}

async fn a_newer_schema_is_refused(arena: Arena) {
    arena
        .raw(
            "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
             VALUES (999, 'future', '2030-01-01T00:00:00Z', '1')",
        )
        .await;
    let Err(error) = Database::open(arena.settings.clone()).await else { panic!("it opened") };
    assert_eq!(error, DbError::SchemaNewer { found: 999, known: database::SCHEMA_VERSION });
}
