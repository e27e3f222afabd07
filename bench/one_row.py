"""The limit of admission: an endpoint that writes one row and answers. Run by `bench.admission`."""

from __future__ import annotations

import sys
from uuid import uuid4

import uvicorn
from sqlalchemy import insert
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from huibo.storage.database import Database
from huibo.storage.tables import idempotency


def main() -> None:
    url, port = sys.argv[1], int(sys.argv[2])
    database = Database(url)

    async def ready(_request: Request) -> Response:
        return Response()

    async def accept(request: Request) -> Response:
        await request.body()
        call_id = str(uuid4())
        row = {"app_id": "bench", "key": call_id, "digest": "0" * 64, "call_id": call_id, "created_at": 1}
        await database.write(lambda connection: connection.execute(insert(idempotency), row))
        return Response('{"errorCode":"0"}')

    routes = [Route("/readyz", ready), Route("/201511v3/callBack", accept, methods=["POST"])]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, loop="uvloop", log_config=None)


if __name__ == "__main__":
    main()
