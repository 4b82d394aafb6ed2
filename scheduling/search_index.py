# ruff: noqa: S608 - the names in these statements are those of our own tables
"""The index of ended runs: how the database writes and keeps it. For use in migrations.

Each run table has a table of texts (`scheduling.models.RunText`). A trigger adds the row of a run that reaches a
terminal state, in the transaction that ends it, so that no way of ending a run can forget it. On SQLite an FTS5 table
beside it holds the words by place in time; on PostgreSQL a GIN index does, with the run's stretches of time among its
words, so that a search can go from the newest stretch to the oldest and stop when a page is full.

On SQLite a migration that rebuilds a run table or a text table drops the triggers: it has to call `install` again.
"""

from __future__ import annotations

from typing import Any

from scheduling.choices import TERMINAL

# What marks a facet: a character that is part of a word for FTS5, and that no search text and no body keeps.
MARK = "\ue000"
# A key is microseconds since 2020 (until 2091), then the low bits of the id for runs of the same microsecond.
KEY_EPOCH = 1_577_836_800
KEY_ID_BITS = 12
_KEY_LIMIT = 2**51 - 1
# Bounds of what is indexed of a log: warnings and errors first.
LOG_LINES = 400
LINE_LENGTH = 400
BODY_LENGTH = 16_000
# PostgreSQL: stretches of time as powers of two, in microseconds: about 2.4 hours, 19 hours, 6 days, 51 days
# and 13 months.
STRETCHES = (33, 36, 39, 42, 45)
# So many runs of a stretch are read and sorted at most.
MOST_READ = 300
# PostgreSQL: the columns of a run that have an index in the order of time, beside those of the model.
PAIRS = (
    ("host",),
    ("trigger",),
    ("host", "trigger"),
    *((one, other) for one in ("job_id", "status", "outcome") for other in ("host", "trigger")),
)
BATCH = 5000

_TERMINAL = ", ".join(f"'{status.value}'" for status in TERMINAL)
_SEPARATORS = r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"""


class Tables:
    """The tables of one kind of run, and its SQL. `targets` is the table of its attempts at targets, if it has any."""

    def __init__(self, *, runs: str, targets: str = "") -> None:
        self.runs, self.targets = runs, targets
        self.texts, self.log, self.words = f"{runs}text", f"{runs}logline", f"{runs}words"


def install(schema_editor: Any, tables: Tables) -> None:
    """Make the index and its triggers, over an empty or a filled table of texts."""
    remove(schema_editor, tables)
    if schema_editor.connection.vendor == "postgresql":
        _install_postgresql(schema_editor, tables)
    else:
        _install_sqlite(schema_editor, tables)


def remove(schema_editor: Any, tables: Tables) -> None:
    """Undo `install`."""
    names = [f"{tables.runs}_text_insert", f"{tables.runs}_text_update"]
    if schema_editor.connection.vendor == "postgresql":
        for name in names:
            _execute(schema_editor, f"DROP TRIGGER IF EXISTS {name} ON {tables.runs}")
        _execute(schema_editor, f"DROP FUNCTION IF EXISTS {tables.runs}_text()")
        _execute(schema_editor, f"DROP FUNCTION IF EXISTS {tables.texts}_search(tsquery, bigint, bigint, boolean, int)")
        _execute(schema_editor, f"ALTER TABLE {tables.texts} DROP COLUMN IF EXISTS words")
        for columns in PAIRS:
            _execute(schema_editor, f"DROP INDEX IF EXISTS {tables.runs}_{'_'.join(columns)}")
    else:
        for name in (*names, f"{tables.texts}_insert", f"{tables.texts}_delete"):
            _execute(schema_editor, f"DROP TRIGGER IF EXISTS {name}")
        _execute(schema_editor, f"DROP TABLE IF EXISTS {tables.words}")


def fill(schema_editor: Any, tables: Tables) -> None:
    """Add the texts of the runs that have ended already, some thousands at a time.

    Before `install`: an index over what is there already is made many times faster than one that grows with each row.
    """
    vendor = schema_editor.connection.vendor
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(f"SELECT max(id) FROM {tables.runs}")
        last = cursor.fetchone()[0] or 0
        for start in range(0, last, BATCH):
            cursor.execute(
                f"{_insert(vendor, tables, 'run')} FROM {tables.runs} run "
                f"WHERE run.id > {start} AND run.id <= {start + BATCH} AND run.status IN ({_TERMINAL}) "
                "ON CONFLICT DO NOTHING"
            )
        if vendor == "postgresql":
            # It alters no table in a transaction that has yet to check what was written.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def _execute(schema_editor: Any, statement: str) -> None:
    """As it stands: a per cent sign is one."""
    schema_editor.execute(statement, params=None)


def _insert(vendor: str, tables: Tables, run: str) -> str:
    """The INSERT ... SELECT of a text; `run` is the name of the run's row."""
    key, body, facets = (make(vendor, tables, run) for make in (_key, _body, _facets))
    return f"INSERT INTO {tables.texts} (key, run_id, body, facets) SELECT {key}, {run}.id, {body}, {facets}"


def _key(vendor: str, _tables: Tables, run: str) -> str:
    at = f"{run}.queued_at"
    if vendor == "postgresql":
        micros = f"(extract(epoch FROM {at}) * 1000000)::bigint - {KEY_EPOCH}000000"
        micros = f"least(greatest({micros}, -{_KEY_LIMIT}), {_KEY_LIMIT})"
    else:
        # Seconds and microseconds apart: SQLite would round them to milliseconds.
        micros = f"(strftime('%s', substr({at}, 1, 19)) - {KEY_EPOCH}) * 1000000 + CAST(substr({at}, 21, 6) AS INTEGER)"
        micros = f"min(max({micros}, -{_KEY_LIMIT}), {_KEY_LIMIT})"
    return f"({micros}) * {2**KEY_ID_BITS} + {run}.id % {2**KEY_ID_BITS}"


def _body(vendor: str, tables: Tables, run: str) -> str:
    gather = "string_agg(said, chr(10))" if vendor == "postgresql" else "group_concat(said, char(10))"
    newline = "chr(10)" if vendor == "postgresql" else "char(10)"
    lines = (
        f"SELECT substr(line.text, 1, {LINE_LENGTH}) AS said FROM {tables.log} line WHERE line.run_id = {run}.id "
        f"ORDER BY CASE line.level WHEN 'error' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, line.seq LIMIT {LOG_LINES}"
    )
    parts = [f"{run}.job_name", f"{run}.requested_by", f"{run}.message"]
    if tables.targets:
        attempts = f"SELECT target_name AS said FROM {tables.targets} WHERE run_id = {run}.id ORDER BY id"
        parts.append(f"coalesce((SELECT {gather} FROM ({attempts}) attempts), '')")
    parts.append(f"coalesce((SELECT {gather} FROM ({lines}) lines), '')")
    return f"replace(substr({f' || {newline} || '.join(parts)}, 1, {BODY_LENGTH}), '{MARK}', ' ')"


def _facets(vendor: str, tables: Tables, run: str) -> str:
    host = f"encode(convert_to({run}.host, 'UTF8'), 'hex')" if vendor == "postgresql" else f"lower(hex({run}.host))"
    text = "text" if vendor == "postgresql" else "TEXT"
    tokens = [
        f"'{MARK}s' || replace({run}.status, '_', '')",
        f"'{MARK}r' || replace({run}.trigger, '_', '')",
        f"CASE WHEN {run}.outcome = '' THEN NULL ELSE '{MARK}o' || replace({run}.outcome, '_', '') END",
        f"CASE WHEN {run}.host = '' THEN NULL ELSE '{MARK}h' || {host} END",
        f"'{MARK}j' || CAST({run}.job_id AS {text})",
    ]
    if tables.targets:
        of_target = f"'{MARK}t' || CAST(target_id AS {text})"
        gather = f"group_concat({of_target}, ' ')"
        if vendor == "postgresql":
            # With each other facet as well: GIN is slow to find what two long lists have in common.
            pairs = ", ".join(f"{of_target} || {token}" for token in tokens)
            gather = f"string_agg(concat_ws(' ', {of_target}, {pairs}), ' ')"
        tokens.append(f"(SELECT {gather} FROM {tables.targets} WHERE run_id = {run}.id AND target_id IS NOT NULL)")
    if vendor == "postgresql":
        # What a key is shifted by to give its stretch; see the search function.
        key = _key(vendor, tables, run)
        tokens += [f"'{MARK}b{level}:' || (({key}) >> {level + KEY_ID_BITS})::text" for level in STRETCHES]
        return f"concat_ws(' ', {', '.join(tokens)})"
    return f"trim({' || '.join(f"coalesce({token} || ' ', '')" for token in tokens)})"


def _install_sqlite(schema_editor: Any, tables: Tables) -> None:
    texts, words = tables.texts, tables.words
    _execute(
        schema_editor,
        f"CREATE VIRTUAL TABLE {words} USING fts5(body, facets, content='{texts}', content_rowid='key', "
        "tokenize='unicode61 remove_diacritics 2')",
    )
    _execute(schema_editor, f"INSERT INTO {words} ({words}) VALUES ('rebuild')")
    _execute(
        schema_editor,
        f"CREATE TRIGGER {texts}_insert AFTER INSERT ON {texts} BEGIN "
        f"INSERT INTO {words} (rowid, body, facets) VALUES (NEW.key, NEW.body, NEW.facets); END",
    )
    _execute(
        schema_editor,
        f"CREATE TRIGGER {texts}_delete AFTER DELETE ON {texts} BEGIN "
        f"INSERT INTO {words} ({words}, rowid, body, facets) VALUES ('delete', OLD.key, OLD.body, OLD.facets); END",
    )
    insert = _insert("sqlite", tables, "NEW").replace("INSERT INTO", "INSERT OR IGNORE INTO", 1)
    for event, name, more in (
        ("INSERT", "insert", ""),
        ("UPDATE OF status", "update", " AND OLD.status <> NEW.status"),
    ):
        _execute(
            schema_editor,
            f"CREATE TRIGGER {tables.runs}_text_{name} AFTER {event} ON {tables.runs} "
            f"WHEN NEW.status IN ({_TERMINAL}){more} BEGIN {insert}; END",
        )


def _install_postgresql(schema_editor: Any, tables: Tables) -> None:
    texts = tables.texts
    separators = _SEPARATORS.replace("'", "''")
    # Punctuation out of the way first: PostgreSQL's parser keeps paths, addresses and numbers with signs whole.
    vector = (
        f"to_tsvector('simple', translate(body, '{separators}', '{' ' * len(_SEPARATORS)}')) || "
        "array_to_tsvector(string_to_array(facets, ' '))"
    )
    _execute(
        schema_editor, f"ALTER TABLE {texts} ADD COLUMN words tsvector GENERATED ALWAYS AS (strip({vector})) STORED"
    )
    # Without the list of pending entries, which every search would read from end to end.
    _execute(schema_editor, f"CREATE INDEX {texts}_words ON {texts} USING gin (words) WITH (fastupdate = off)")
    # For the same reason these have indexes of the ordinary sort, which on SQLite the words do without.
    for columns in PAIRS:
        name = f"{tables.runs}_{'_'.join(columns)}"
        _execute(
            schema_editor,
            f"CREATE INDEX {name} ON {tables.runs} ({', '.join(columns)}, queued_at DESC, id DESC)",
        )
    _execute(schema_editor, _search_function(texts))
    _execute(
        schema_editor,
        f"""
        CREATE FUNCTION {tables.runs}_text() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            {_insert("postgresql", tables, "NEW")} ON CONFLICT DO NOTHING;
            RETURN NULL;
        END $$
        """,
    )
    for event, name, more in (
        ("INSERT", "insert", ""),
        ("UPDATE OF status", "update", " AND OLD.status <> NEW.status"),
    ):
        _execute(
            schema_editor,
            f"CREATE TRIGGER {tables.runs}_text_{name} AFTER {event} ON {tables.runs} FOR EACH ROW "
            f"WHEN (NEW.status IN ({_TERMINAL}){more}) EXECUTE FUNCTION {tables.runs}_text()",
        )


def _search_function(texts: str) -> str:
    """From one end of the keys between `above` and `below` to the other, a stretch at a time, each found by the GIN
    index, until `wanted` runs are found.

    Short stretches come first, so that a common word costs no more than a rare one; then they grow to those that hold
    some fiftieth of the history, so that an absent word does not either. A stretch with more than a few hundred runs is
    gone through in shorter ones: no more than that are ever read and sorted. The planner, which does not see how the
    words lie in time, is kept from reading the table instead.
    """
    low, high = STRETCHES[0], STRETCHES[-1]
    matches = f"words @@ (query && ('''{MARK}b' || level || ':' || (place >> level) || '''')::tsquery)"
    return f"""
        CREATE FUNCTION {texts}_search(query tsquery, above bigint, below bigint, newer boolean, wanted int)
        RETURNS SETOF bigint LANGUAGE plpgsql STABLE ROWS 50
        SET enable_seqscan = off AS $$
        DECLARE
            lo bigint; hi bigint; place bigint; hits int; left_over int := wanted;
            level int := {low}; top int := {low};
        BEGIN
            SELECT max(key) INTO hi FROM {texts} WHERE key < below;
            SELECT min(key) INTO lo FROM {texts} WHERE key > above;
            IF hi IS NULL OR lo IS NULL OR hi < lo THEN
                RETURN;
            END IF;
            WHILE top < {high} AND ((hi - lo) >> (top + {KEY_ID_BITS})) > 50 LOOP
                top := top + 3;
            END LOOP;
            place := CASE WHEN newer THEN lo >> {KEY_ID_BITS} ELSE hi >> {KEY_ID_BITS} END;
            LOOP
                hits := {MOST_READ};
                IF level > {low} THEN
                    SELECT count(*) INTO hits FROM (SELECT 1 FROM {texts} WHERE {matches} LIMIT {MOST_READ}) matching;
                    IF hits = {MOST_READ} THEN
                        level := level - 3;
                        CONTINUE;
                    END IF;
                END IF;
                IF hits > 0 THEN
                    RETURN QUERY
                        SELECT run_id FROM {texts}
                        WHERE {matches} AND key + 0 BETWEEN lo AND hi
                        ORDER BY CASE WHEN newer THEN key ELSE -key END LIMIT left_over;
                    GET DIAGNOSTICS hits = ROW_COUNT;
                    left_over := left_over - hits;
                    EXIT WHEN left_over <= 0;
                END IF;
                IF newer THEN
                    place := ((place >> level) + 1) << level;
                    EXIT WHEN place > (hi >> {KEY_ID_BITS});
                    WHILE level < top AND place & ((1::bigint << (level + 3)) - 1) = 0 LOOP
                        level := level + 3;
                    END LOOP;
                ELSE
                    place := ((place >> level) << level) - 1;
                    EXIT WHEN place < (lo >> {KEY_ID_BITS});
                    WHILE level < top AND (place + 1) & ((1::bigint << (level + 3)) - 1) = 0 LOOP
                        level := level + 3;
                    END LOOP;
                END IF;
            END LOOP;
        END $$
    """
