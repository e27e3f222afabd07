"""Today's common way: AMI `Originate` of the first leg into a dialplan that dials the second.

No database, no admission, no timers, no recovery. Run by `bench.calls`.
"""

from __future__ import annotations

import argparse
import asyncio

import uvloop

from bench.carrier import callee_of, caller_of
from bench.load import arguments, load

DIALPLAN = """
[bench]
exten => _X.,1,Dial(PJSIP/${EXTEN}@carrier,60)
 same => n,Hangup()
"""
MANAGER = """
[general]
enabled=yes
bindaddr=127.0.0.1
port=@{ami_port}
[bench]
secret=bench
read=call
write=originate
"""
# Messages that huibo's Asterisk does not make, and without which its manager does not start.
NEEDS = ("ast_channel_varset_type", "ast_channel_dtmf_begin_type")


async def run(options: argparse.Namespace) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", options.port)
    await reader.readline()
    waiting: dict[bytes, asyncio.Future[bool]] = {}

    async def action(name: str, key: str, **fields: str) -> None:
        lines = [f"Action: {name}", f"ActionID: {key}", *(f"{k}: {v}" for k, v in fields.items())]
        future = waiting[key.encode()] = asyncio.get_running_loop().create_future()
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        if not await future:
            raise RuntimeError(f"{name} refused")

    async def read() -> None:
        while True:
            packet = await reader.readuntil(b"\r\n\r\n")
            if packet.startswith(b"Response: "):
                key = packet.partition(b"ActionID: ")[2].split(b"\r\n")[0]
                if (future := waiting.pop(key, None)) is not None:
                    future.set_result(packet.startswith(b"Response: Success"))

    async def place(n: int) -> None:
        await action(
            "Originate",
            str(n),
            Channel=f"PJSIP/{caller_of(n)}@carrier",
            Context="bench",
            Exten=callee_of(n),
            Priority="1",
            Async="true",
        )

    reading = asyncio.create_task(read())
    await action("Login", "login", Username="bench", Secret="bench")
    (await load(options, place)).print()
    reading.cancel()


def main() -> None:
    parser = argparse.ArgumentParser()
    arguments(parser)
    parser.add_argument("--port", type=int, required=True, help="of Asterisk's manager")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
