"""The keys of the API in the database: each method is one statement that decides for everybody at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from maildaemon_adapters.sql.database import Database
from maildaemon_adapters.sql.rows import at_moment, at_moment_or_none, moment, moment_or_none
from maildaemon_adapters.sql.tables import api_key, storable
from maildaemon_core.access import ApiKey, kept_scopes
from maildaemon_core.errors import KeyExists


class SqlKeys:
    """The part of ``SqlStore`` that keeps keys.  Every method raises ``StoreUnavailable``."""

    _database: Database

    def keys(self) -> Sequence[ApiKey]:
        with self._database.read() as connection:
            rows = connection.execute(sa.select(api_key).order_by(api_key.c.created, api_key.c.prefix)).all()
        return [_key_from(row) for row in rows]

    def key(self, prefix: str) -> ApiKey | None:
        with self._database.read() as connection:
            row = connection.execute(sa.select(api_key).where(_is(prefix))).first()
        return None if row is None else _key_from(row)

    def add_key(self, key: ApiKey) -> None:
        row = {
            "prefix": storable(key.prefix),
            "name": storable(key.name),
            "digest": storable(key.digest),
            "scopes": sorted(key.scopes),
            "created": moment(key.created),
            "expires": moment_or_none(key.expires),
            "last_used": moment_or_none(key.last_used),
            "revoked": moment_or_none(key.revoked),
        }
        with self._database.write() as connection:
            try:
                with connection.begin_nested():
                    connection.execute(sa.insert(api_key).values(row))
            except exc.IntegrityError:
                # The unique index on names is what decides between two who add one at the same moment.
                raise KeyExists(
                    f"there is a key {key.name!r} already", remedy="revoke it first, or take another name"
                ) from None

    def revoke_key(self, prefix: str, at: datetime) -> bool:
        revoke = sa.update(api_key).where(_is(prefix), api_key.c.revoked.is_(None)).values(revoked=moment(at))
        with self._database.write() as connection:
            return connection.execute(revoke).rowcount > 0

    def key_used(self, prefix: str, at: datetime) -> None:
        earlier = sa.or_(api_key.c.last_used.is_(None), api_key.c.last_used < moment(at))
        with self._database.write() as connection:
            connection.execute(sa.update(api_key).where(_is(prefix), earlier).values(last_used=moment(at)))


def _is(prefix: str) -> sa.ColumnElement[bool]:
    return api_key.c.prefix == storable(prefix)


def _key_from(row: Any) -> ApiKey:
    return ApiKey(
        prefix=row.prefix,
        name=row.name,
        digest=row.digest,
        scopes=kept_scopes(row.scopes),
        created=at_moment(row.created),
        expires=at_moment_or_none(row.expires),
        last_used=at_moment_or_none(row.last_used),
        revoked=at_moment_or_none(row.revoked),
    )
