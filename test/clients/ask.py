"""ask.py FILE: as ask.mjs, for the modules in Python.

"unbound SECRET" verifies it in the way of the same library that the document warns of.
"""

import asyncio
import importlib.util
import inspect
import sys
import traceback
from urllib.parse import unquote

spec = importlib.util.spec_from_file_location("client", sys.argv[1])
client = importlib.util.module_from_spec(spec)
spec.loader.exec_module(client)


async def unbound(*pool_and_secret):
    """What the document warns of: nothing is bound or, with asyncpg, a wrong type."""
    secret = pool_and_secret[-1]
    statement = "SELECT key_id FROM overten_verify_key(%s)"
    if hasattr(client, "open_pool"):
        await client.verify(pool_and_secret[0], secret.encode())
    elif hasattr(client, "engine"):
        from sqlalchemy import create_engine, text
        with create_engine("postgresql://service@/app").begin() as connection:
            connection.execute(text("SELECT key_id FROM overten_verify_key(:secret)"), {"secret": secret})
    elif hasattr(client, "ConnectionPool"):
        from psycopg import ClientCursor
        with client.pool.connection() as connection:
            ClientCursor(connection).execute(statement, [secret])
    else:
        with client.cursor() as cursor:
            cursor.execute(statement, [secret])


def sqlstate_of(error):
    error = getattr(error, "orig", error)
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)


async def answer_to(what, values, pool):
    try:
        row = (unbound if what == "unbound" else getattr(client, what))(*pool, *values)
        if inspect.isawaitable(row):
            row = await row
        return "none" if row is None else "row " + " ".join(row.values())
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        return f"invalid {error}"
    except Exception as error:
        traceback.print_exc()
        return f"error {sqlstate_of(error)}"


async def main():
    pool = [await client.open_pool()] if hasattr(client, "open_pool") else []
    for line in sys.stdin:
        what, *values = map(unquote, line.rstrip("\n").split(" "))
        print(await answer_to(what, values, pool), flush=True)


asyncio.run(main())
