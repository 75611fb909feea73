"""Where rows name a person: in columns of ids, in lists of ids, and as a word of JSON text; as Arrow masks and as SQL.

A row that names her in a column of ids is about her and goes whole. A list or a JSON text of somebody else's row may name her
too (a blocked creator, the host in a viewer's recent list): only the name is taken out.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.state import pair_id

STAND_IN = "erased"  # takes the place of a name in JSON text
PAIR = "pair_id"


def _is_text(kind: pa.DataType) -> bool:
    """Text however a writer keeps it: a file that delta-rs rewrote has views, for which Arrow has few functions."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(is_one(kind) for is_one in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def id_columns(schema: pa.Schema) -> list[str]:
    """Columns of which a value is somebody's or something's id."""
    return [f.name for f in schema if _is_text(f.type) and (f.name.endswith("_id") or f.name in ("item_key", "id"))]


def list_columns(schema: pa.Schema) -> list[str]:
    """Columns of lists of words."""
    kinds = (pa.types.is_list, pa.types.is_large_list)
    return [f.name for f in schema if any(kind(f.type) for kind in kinds) and _is_text(f.type.value_type)]


def text_columns(schema: pa.Schema) -> list[str]:
    """Columns of other text, which may be JSON."""
    ids = set(id_columns(schema))
    return [f.name for f in schema if _is_text(f.type) and f.name not in ids]


def file_mentions(path: Path, user_id: str) -> bool | None:
    """Whether a Parquet file names a person anywhere; None when it cannot be read (not written whole)."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError):
        return None
    schema = file.schema_arrow
    columns = [*id_columns(schema), *list_columns(schema), *text_columns(schema)]
    with file:
        batches = file.iter_batches(batch_size=65_536, columns=columns)
        return any(mentions(pa.Table.from_batches([batch]), user_id) for batch in batches)


def mentions(rows: pa.Table, user_id: str) -> bool:
    """Whether any row names a person."""
    quoted = json.dumps(user_id, ensure_ascii=False)
    return (
        any(_any(_equal(_text(rows[name]), name, user_id)) for name in id_columns(rows.schema))
        or any(_any(pc.equal(_text(pc.list_flatten(rows[name])), user_id)) for name in list_columns(rows.schema))
        or any(_any(pc.match_substring(_text(rows[name]), quoted)) for name in text_columns(rows.schema))
    )


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.large_string())


def _equal(column: pa.ChunkedArray, name: str, user_id: str) -> pa.ChunkedArray:
    if name != PAIR:
        return pc.equal(column, user_id)
    return pc.or_(pc.starts_with(column, pair_id(user_id, "")), pc.ends_with(column, f"|{user_id}"))


def _any(mask: pa.ChunkedArray) -> bool:
    return bool(pc.any(mask, min_count=0).as_py())


def about(schema: pa.Schema, user_id: str) -> str:
    """SQL: the rows that are about a person; empty when no column could say so. True or false, never null."""
    name = _literal(user_id)
    said = [f"coalesce({column} = {name}, false)" for column in id_columns(schema) if column != PAIR]
    if PAIR in schema.names:
        said.append(f"coalesce(starts_with({PAIR}, {_literal(pair_id(user_id, ''))}), false)")
        said.append(f"coalesce(ends_with({PAIR}, {_literal('|' + user_id)}), false)")
    return " OR ".join(said)


def takes_out(schema: pa.Schema, user_id: str) -> tuple[str, dict[str, str]]:
    """SQL of the rows of others that name a person, and of the columns' values without the name; empty without columns."""
    name, quoted = _literal(user_id), _literal(json.dumps(user_id, ensure_ascii=False))
    stand_in = _literal(json.dumps(STAND_IN))
    lists, texts = list_columns(schema), text_columns(schema)
    said = [f"coalesce(array_has({column}, {name}), false)" for column in lists]
    said += [f"coalesce(strpos({column}, {quoted}) > 0, false)" for column in texts]
    updates = {column: f"array_remove_all({column}, {name})" for column in lists}
    updates |= {column: f"replace({column}, {quoted}, {stand_in})" for column in texts}
    return " OR ".join(said), updates


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
