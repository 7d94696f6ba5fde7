=== opaque: no statement
=== opaque: only a comment
-- nothing
=== opaque: stacked statements
SELECT 1; DROP TABLE users
=== opaque: a stacked COMMIT ends a read-only transaction
COMMIT; DROP TABLE users
=== opaque: two semicolons
SELECT 1;;
=== opaque: transaction control
BEGIN
=== opaque
BEGIN IMMEDIATE
=== opaque
COMMIT
=== opaque
ROLLBACK
=== opaque
SAVEPOINT a
=== opaque
RELEASE a
=== opaque: conflict clause that rolls back
INSERT OR ROLLBACK INTO users VALUES (1, 'a', 'b')
=== opaque: settings
PRAGMA writable_schema = ON
=== opaque
PRAGMA foreign_keys = OFF
=== opaque
PRAGMA table_info(users)
=== opaque: files
ATTACH DATABASE '/tmp/x.db' AS x
=== opaque
DETACH x
=== opaque
VACUUM INTO '/tmp/x.db'
=== opaque
VACUUM
=== opaque
REINDEX
=== opaque
ANALYZE
=== opaque: virtual table
CREATE VIRTUAL TABLE ft USING fts5(a)
=== opaque: trigger
CREATE TRIGGER t AFTER INSERT ON users BEGIN DELETE FROM secrets; END
=== opaque
DROP TRIGGER t
=== opaque: temporary objects shadow
CREATE TEMP TABLE users(id)
=== opaque
CREATE TEMPORARY VIEW users AS SELECT * FROM secrets
=== opaque: changes what a later insert destroys
CREATE TABLE fresh(id INTEGER UNIQUE ON CONFLICT REPLACE)
=== opaque
CREATE TABLE fresh(id INTEGER, UNIQUE (id) ON CONFLICT ROLLBACK)
=== opaque: functions with effects
SELECT load_extension('/tmp/x.so')
=== opaque: quoted function
SELECT "load_extension"('/tmp/x.so')
=== opaque: bracketed function
SELECT [load_extension]('/tmp/x.so')
=== opaque: comment between name and parenthesis
SELECT load_extension/**/('/tmp/x.so')
=== opaque: function inside a write
INSERT INTO users(name) VALUES (load_extension('/tmp/x.so'))
=== opaque: function in a CTE of its own name
WITH load_extension(x) AS (SELECT 1) SELECT load_extension('/tmp/x.so')
=== opaque
SELECT writefile('/tmp/x', 'y')
=== opaque
SELECT readfile('/etc/passwd')
=== opaque
SELECT fts3_tokenizer('simple', x'00')
=== opaque: full-text maintenance in a SELECT
SELECT optimize(docs) FROM docs
=== opaque: undocumented
SELECT sqlite_log(1, 'x')
=== opaque: file system as a table
SELECT * FROM fsdir WHERE path = '/'
=== opaque
SELECT * FROM fsdir('/')
=== opaque
SELECT * FROM 'fsdir'('/')
=== opaque: pragma as a table
SELECT * FROM pragma_compile_options
=== opaque
SELECT * FROM sqlite_dbpage
=== opaque: schema writes
UPDATE sqlite_master SET sql = ''
=== opaque
DELETE FROM sqlite_sequence
=== opaque
INSERT INTO main.sqlite_schema VALUES (1, 2, 3, 4, 5)
=== opaque: command to a full-text index
INSERT INTO docs(docs) VALUES ('delete-all')
=== opaque
INSERT INTO docs(DOCS, body) VALUES ('rebuild', 1)
=== opaque: nested comments
SELECT 1 /* /* */ , load_extension('x') /* */ */
=== opaque: unterminated comment
SELECT 1 /* DROP TABLE users
=== opaque: unterminated string
SELECT 'abc
=== opaque escaped: nul
SELECT 1\0; DROP TABLE users
=== opaque escaped: nul in a string
SELECT 'a\0b'
=== opaque escaped: no-break space
SELECT\u{a0}1
=== opaque escaped: ideographic space
DELETE\u{3000}FROM users
=== opaque escaped: byte order mark
\u{feff}SELECT 1
=== opaque escaped: vertical tab
SELECT\x0b1
=== opaque escaped: homoglyph table
SELECT * FROM us\u{435}rs
=== opaque: national string is a column and an alias
SELECT N'x'
=== opaque: dollar quotes
SELECT $$abc$$
=== opaque: dollar in a name
SELECT a$b FROM users
=== opaque: tcl variable swallows a parenthesis
SELECT $a(x) , 1
=== opaque: number grown together
SELECT 1a
=== opaque
SELECT 10L
=== opaque: odd blob
SELECT x'123'
=== opaque: point in a quoted name
SELECT * FROM "main.users"
=== opaque: table after IN
SELECT 1 WHERE 1 IN secrets
=== opaque: executes elsewhere
EXPLAIN ANALYZE DELETE FROM users
=== opaque: data-modifying CTE
WITH d AS (DELETE FROM users RETURNING *) SELECT * FROM d
=== opaque: other dialects
TRUNCATE TABLE users
=== opaque
COPY users TO PROGRAM 'sh'
=== opaque
CALL f()
=== opaque
SELECT * INTO x FROM users
=== opaque
TABLE users
=== opaque
(SELECT 1)
=== opaque
GRANT ALL ON users TO x
=== opaque
MERGE INTO users USING orders ON 1 WHEN MATCHED THEN DELETE
=== opaque: modifiers that are table names to sqlite
SELECT * FROM users, LATERAL (SELECT * FROM secrets)
=== opaque
SELECT * FROM UNNEST(secrets)
=== opaque
SELECT * FROM TABLE(users)
=== opaque: dot commands are the shell's
.shell rm -rf /
=== opaque: no sql
rm -rf /
=== opaque
DROP TRIGGER IF EXISTS x
=== opaque
DROP DATABASE x
